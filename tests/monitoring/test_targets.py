"""The file of targets names every server that has metrics, with the labels that rules ask for."""

import json
import os
from pathlib import Path

import pytest

from monitoring.targets import write_targets
from services.local.record import ServerRecord, remove_record, write_record

pytestmark = pytest.mark.unit


def server(name: str, metrics: str) -> ServerRecord:
    return ServerRecord(name=name, pid=os.getpid(), address="127.0.0.1:1", metrics=metrics, log="")


def test_servers_with_metrics_become_targets_and_a_stopped_system_has_none(tmp_path: Path) -> None:
    servers = (server("orchestrator", "127.0.0.1:9464"), server("redis", ""), server("lm", "127.0.0.1:8002"))
    write_record(tmp_path, servers, ready=True)
    file = write_targets(tmp_path)
    assert file == tmp_path / "targets.json"
    assert json.loads(file.read_text()) == [
        {
            "targets": ["127.0.0.1:9464"],
            "labels": {"job": "stepaudio", "namespace": "local", "component": "orchestrator"},
        },
        {"targets": ["127.0.0.1:8002"], "labels": {"job": "stepaudio", "namespace": "local", "component": "lm"}},
    ]
    remove_record(tmp_path)
    assert json.loads(write_targets(tmp_path).read_text()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["targets.json"]


def test_a_run_folder_that_is_not_there_yet_is_made(tmp_path: Path) -> None:
    assert json.loads(write_targets(tmp_path / "out" / "local").read_text()) == []
