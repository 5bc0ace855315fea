"""A room's graphs are exported before its server runs, and what cannot be exported is computed by torch."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.local.graph_host import GRAPH_ROOMS, ONNX_RUNTIME, TORCH, engine_after
from services.local.settings import LocalSettings
from services.shared.errors import CheckpointError
from tests.conftest import ROOT

pytestmark = pytest.mark.unit

SHOW_ENGINE = [sys.executable, "-c", "import os; print(os.environ['STEPAUDIO_ENGINE'], os.getpid())"]


def test_onnx_runtime_computes_what_was_exported() -> None:
    assert engine_after(lambda: None) == ONNX_RUNTIME


@pytest.mark.parametrize("fault", [CheckpointError("too far from torch"), ImportError("no onnxscript"), OSError(28)])
def test_torch_computes_what_cannot_be_exported(fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def export() -> None:
        raise fault

    assert engine_after(export) == TORCH
    assert "torch computes instead" in caplog.text


def test_an_export_that_takes_too_long_is_given_up() -> None:
    def export() -> None:
        while True:
            pass

    assert engine_after(export, longest_s=0.02) == TORCH


@pytest.mark.parametrize(
    ("chosen", "uses_graphs"),
    [
        ({}, True),
        ({"engine": "torch"}, False),
        ({"engine": "vllm"}, False),
        ({"dtype": "bfloat16"}, False),
        ({"device": "cuda"}, False),
    ],
)
def test_graphs_are_for_float32_on_a_cpu(chosen: dict[str, Any], uses_graphs: bool) -> None:
    assert LocalSettings(**chosen).uses_graphs is uses_graphs


@pytest.mark.parametrize("room", GRAPH_ROOMS)
def test_the_command_runs_in_the_same_process_also_without_graphs(room: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "services.local.graph_host", room, str(tmp_path), str(tmp_path / "cache"), *SHOW_ENGINE],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        said, _ = process.communicate(timeout=60)
    assert said.split() == [TORCH, str(process.pid)]
