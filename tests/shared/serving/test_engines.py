"""The engine of a room is the one of its settings, and tells the room's metrics what it counts."""

import asyncio
import importlib.util
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.shared.decoding import EngineRunner
from services.shared.decoding.vllm.stats import StatsTaker
from services.shared.errors import InvalidOptionError
from services.shared.sampling import SamplingParams
from services.shared.serving.engines import EngineMetrics, open_engine
from services.shared.serving.settings import read_room_settings
from services.shared.telemetry.catalogue import ENGINE_METRICS, MetricKind, MetricSpec
from tests.shared.step1.tiny import tiny_step1, write_checkpoint

pytestmark = pytest.mark.unit


class Written:
    """A metric that remembers what was written."""

    def __init__(self) -> None:
        self.value = 0.0
        self.seen: list[float] = []

    def set(self, value: float) -> None:
        self.value = value

    def increment(self, value: float) -> None:
        assert value >= 0
        self.value += value

    def observe(self, value: float) -> None:
        self.seen.append(value)


class Metrics:
    """RoomMetrics without Triton."""

    def __init__(self) -> None:
        self.made: dict[str, tuple[MetricKind, Written]] = {}

    def _make(self, spec: MetricSpec, kind: MetricKind) -> Written:
        assert spec.kind is kind
        self.made[spec.what] = kind, Written()
        return self.made[spec.what][1]

    def gauge(self, spec: MetricSpec) -> Written:
        return self._make(spec, MetricKind.GAUGE)

    def counter(self, spec: MetricSpec) -> Written:
        return self._make(spec, MetricKind.COUNTER)

    def histogram(self, spec: MetricSpec) -> Written:
        return self._make(spec, MetricKind.HISTOGRAM)


def step(running: int) -> tuple[Any, Any]:
    cache = SimpleNamespace(queries=8, hits=6)
    scheduler = SimpleNamespace(
        num_running_reqs=running, num_waiting_reqs=0, kv_cache_usage=0.5, prefix_cache_stats=cache
    )
    iteration = SimpleNamespace(
        num_preempted_reqs=1, num_prompt_tokens=8, time_to_first_tokens_iter=[0.2], inter_token_latencies_iter=[0.01],
        finished_requests=[SimpleNamespace(queued_time=0.05)],
    )  # fmt: skip
    return scheduler, iteration


def test_every_number_of_the_engine_reaches_its_metric_once() -> None:
    metrics, stats = Metrics(), StatsTaker()
    engine = EngineMetrics(metrics, stats)  # type: ignore[arg-type]  # RoomMetrics can be imported inside Triton alone
    stats.record(*step(2))
    stats.record(*step(3))
    assert engine.report(), "the engine still has requests"
    stats.record(*step(0))
    assert not engine.report()
    assert not engine.report()
    assert set(metrics.made) == {spec.what for spec in ENGINE_METRICS}
    written = {what: metric for what, (_, metric) in metrics.made.items()}
    assert (written["running_requests"].value, written["kv_cache_used_ratio"].value) == (0, 0.5)
    counted = ("preempted_requests_total", "prompt_tokens_total", "prefix_asked_tokens_total")
    assert [written[what].value for what in counted] == [3, 24, 24]
    assert written["prefix_found_tokens_total"].value == 18
    assert written["first_token_seconds"].seen == [0.2] * 3
    assert written["token_interval_seconds"].seen == [0.01] * 3
    assert written["queue_seconds"].seen == [0.05] * 3


def test_torch_generates_unless_told_otherwise(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, tiny_step1().state_dict())
    settings = read_room_settings({"checkpoints": "."}, tmp_path)
    engine = open_engine(folder, settings, Metrics(), lambda _: nullcontext())  # type: ignore[arg-type]  # see above

    async def read() -> list[int]:
        params = SamplingParams(max_new_tokens=3, temperature=0)
        outputs = engine.streams.stream([1, 2], params, is_gone=lambda: False)
        return [token async for output in outputs for token in output.ids]

    assert isinstance(engine.streams, EngineRunner)
    assert len(asyncio.run(read())) == 3
    assert not engine.report()


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_vllm_that_is_not_installed_is_an_option_out_of_range(tmp_path: Path) -> None:
    settings = read_room_settings({"checkpoints": ".", "engine": "vllm"}, tmp_path)
    with pytest.raises(InvalidOptionError, match="STEPAUDIO_ENGINE"):
        open_engine(tmp_path, settings, Metrics(), lambda _: nullcontext())  # type: ignore[arg-type]  # see above


def test_a_room_on_torch_imports_nothing_of_vllm() -> None:
    code = (
        "import sys, services.shared.serving.engines, services.shared.decoding.vllm.streams\n"
        "sys.exit(any(name.split('.')[0] in ('vllm', 'transformers') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_text_is_read_as_utf_8_before_vllm_is_imported(tmp_path: Path) -> None:
    """Triton's embedded Python starts in the C locale."""
    code = f"""if True:
        import locale, pathlib
        from services.shared.errors import StepAudioError
        from services.shared.serving.engines import open_engine
        from services.shared.serving.settings import read_room_settings
        folder = pathlib.Path({str(tmp_path)!r})
        before = locale.getencoding()
        try:
            open_engine(folder, read_room_settings({{"checkpoints": ".", "engine": "vllm"}}, folder), None, None)
        except StepAudioError:
            print(before, locale.getencoding())
    """
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONWARNINGS": "ignore"}
    said = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **plain}, capture_output=True, text=True, check=True
    )
    assert said.stdout.split()[-2:] == ["ANSI_X3.4-1968", "UTF-8"]
