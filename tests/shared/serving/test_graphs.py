"""What a room's settings say about exported graphs."""

from pathlib import Path

import pytest

from services.shared.errors import InvalidOptionError
from services.shared.graphs.opening import GraphSettings
from services.shared.serving.graphs import graph_settings
from services.shared.serving.settings import read_room_settings

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPAUDIO_CHECKPOINTS", "/c")
    for name in ("ENGINE", "GRAPH_CACHE", "DEVICE", "THREADS", "PLAN_PRECISION"):
        monkeypatch.delenv(f"STEPAUDIO_{name}", raising=False)


def test_torch_needs_no_graphs() -> None:
    assert graph_settings(read_room_settings({}, Path("/m"))) is None


def test_onnx_runtime_runs_graphs_where_the_room_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPAUDIO_ENGINE", "onnxruntime")
    monkeypatch.setenv("STEPAUDIO_GRAPH_CACHE", "/g")
    monkeypatch.setenv("STEPAUDIO_THREADS", "2")
    assert graph_settings(read_room_settings({}, Path("/m"))) == GraphSettings(Path("/g"), threads=2)
    monkeypatch.setenv("STEPAUDIO_ENGINE", "onnxruntime-tensorrt")
    monkeypatch.setenv("STEPAUDIO_DEVICE", "cuda:1")
    expected = GraphSettings(Path("/g"), device="cuda:1", threads=2, tensorrt=True)
    assert graph_settings(read_room_settings({}, Path("/m"))) == expected


def test_tensorrt_runs_plans_in_the_precision_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPAUDIO_ENGINE", "tensorrt")
    monkeypatch.setenv("STEPAUDIO_DEVICE", "cuda")
    plain = graph_settings(read_room_settings({}, Path("/m")))
    assert plain is not None
    assert (plain.plans, plain.tensorrt) == ("float16", False)
    monkeypatch.setenv("STEPAUDIO_PLAN_PRECISION", "float8")
    scaled = graph_settings(read_room_settings({}, Path("/m")))
    assert scaled is not None
    assert scaled.plans == "float8"


def test_an_engine_that_nobody_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPAUDIO_ENGINE", "openvino")
    with pytest.raises(InvalidOptionError, match="STEPAUDIO_ENGINE"):
        read_room_settings({}, Path("/m"))
