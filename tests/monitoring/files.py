"""The committed rules, dashboards and queries. Whoever imports this is skipped where the extra `monitoring` is not."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

pytest.importorskip("promql_parser", reason="promql-parser is in the extra `monitoring`")
pytest.importorskip("grafana_foundation_sdk", reason="grafana-foundation-sdk is in the extra `monitoring`")

from monitoring.generated import DASHBOARDS, RULES
from tests.conftest import ROOT

_GRAFANA: Final = {"$__rate_interval": "5m", "$namespace": "s", "$gpu_hour_price": "2.5"}


@dataclass(frozen=True, slots=True)
class Placed:
    """A query and where it stands."""

    where: str
    expr: str

    def __str__(self) -> str:
        return self.where


def rule_files() -> list[dict[str, Any]]:
    return [yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(RULES.glob("*.yaml"))]


def rules() -> list[dict[str, Any]]:
    return [rule for file in rule_files() for group in file["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def dashboards() -> dict[str, dict[str, Any]]:
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(DASHBOARDS.glob("*.json"))}


def panels() -> list[tuple[str, dict[str, Any]]]:
    boards = dashboards().items()
    return [(name, panel) for name, board in boards for panel in board["panels"] if panel["type"] != "row"]


def queries() -> list[Placed]:
    """All of them, Grafana's variables filled in."""
    found = [Placed(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()]
    for name, panel in panels():
        found += [Placed(f"{name}: {panel['title']}", _filled(target["expr"])) for target in panel["targets"]]
    return found


def _filled(expr: str) -> str:
    for variable, value in _GRAFANA.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr, f"a variable that nobody fills in: {re.findall(r'[$].*', expr)}"
    return expr


def place_configuration(folder: Path) -> Path:
    """The files of Prometheus on this machine as the compose file places them, below a folder; the run folder is empty.

    Returns:
        The configuration.
    """
    local = ROOT / "monitoring" / "local"
    (folder / "etc/stepaudio/run").mkdir(parents=True)
    for volume in yaml.safe_load((local / "compose.yaml").read_text())["services"]["prometheus"]["volumes"]:
        source, target, _ = volume.replace("${STEPAUDIO_RUN_FOLDER:-../../out/local}", "none").split(":")
        place = folder / target.lstrip("/")
        if (local / source).is_dir():
            shutil.copytree(local / source, place)
        elif (local / source).is_file():
            place.write_text((local / source).read_text().replace("/etc/stepaudio", f"{folder}/etc/stepaudio"))
    return folder / "etc/stepaudio/prometheus.yaml"


def run(program: str, *arguments: str | Path) -> str:
    """What a program says; it must succeed."""
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
