"""Where a system on this machine answers, for Prometheus without Kubernetes: `python -m monitoring.targets`.

It reads the record of what `python -m services.local up` started and writes a file of targets beside it, which
Prometheus reads again whenever it changes. Labels are those that the chart's ServiceMonitors give.
"""

import json
import sys
from pathlib import Path
from typing import Final, TypedDict

from services.local.record import RunRecord, read_record
from services.local.settings import read_local_settings

FILE: Final = "targets.json"
JOB: Final = "stepaudio"
NAMESPACE: Final = "local"


class Group(TypedDict):
    """Prometheus's form (file_sd) of servers that have the same labels."""

    targets: list[str]
    labels: dict[str, str]


def targets(record: RunRecord) -> list[Group]:
    """Every server that has metrics, one a group."""
    return [
        {
            "targets": [server.metrics],
            "labels": {"job": JOB, "namespace": NAMESPACE, "component": server.name},
        }
        for server in record.servers
        if server.metrics
    ]


def write_targets(folder: Path) -> Path:
    """Write the targets of the system that runs from a folder; of none, an empty list.

    Args:
        folder: the run folder of services/local.

    Returns:
        The file that was written, whole or not at all.
    """
    record = read_record(folder)
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{FILE}.new"
    beside.write_text(json.dumps(targets(record) if record else [], indent=2) + "\n", encoding="utf-8")
    return beside.replace(folder / FILE)


if __name__ == "__main__":
    sys.stdout.write(f"{write_targets(read_local_settings().run_folder)}\n")
