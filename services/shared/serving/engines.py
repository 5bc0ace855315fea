"""The engine that a language model's room was told to use, behind one port.

vLLM is imported where it is chosen and nowhere else: a room that runs on torch has it not installed.
"""

import locale
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from services.shared.decoding import ContinuousBatcher, EngineRunner, TokenStreams
from services.shared.decoding.runner import AroundStep
from services.shared.decoding.vllm.options import VllmOptions
from services.shared.decoding.vllm.stats import StatsTaker
from services.shared.errors import InvalidOptionError
from services.shared.nn.step1 import load_step1
from services.shared.serving.settings import RoomSettings
from services.shared.telemetry.catalogue import (
    ENGINE_CACHE,
    ENGINE_FIRST_TOKEN,
    ENGINE_PREEMPTED,
    ENGINE_PREFIX_ASKED,
    ENGINE_PREFIX_FOUND,
    ENGINE_PROMPT,
    ENGINE_QUEUE,
    ENGINE_RUNNING,
    ENGINE_TOKEN,
    ENGINE_WAITING,
)

if TYPE_CHECKING:
    from services.shared.serving.metrics import RoomMetrics  # which can be imported inside Triton alone


@dataclass(frozen=True, slots=True, eq=False)
class OpenEngine:
    """An engine that is ready.

    Attributes:
        streams: it itself.
        report: brings the room's metrics of the engine up to date; whether more is to come without a new request.
    """

    streams: TokenStreams
    report: Callable[[], bool]


def open_engine(folder: Path, settings: RoomSettings, metrics: "RoomMetrics", around_pass: AroundStep) -> OpenEngine:
    """Load the checkpoint in `folder` into the engine of the settings.

    Args:
        folder: config.json and *.safetensors.
        settings: of the room.
        metrics: of the room; given those of an engine that counts for itself.
        around_pass: entered for each pass of an engine that runs in this process.

    Raises:
        CheckpointError: a file is missing or damaged.
        InvalidOptionError: the model cannot be served with these settings.
        StepAudioError: the engine did not start.
    """
    if settings.engine == "vllm":
        return _open_vllm(folder, settings, metrics)
    model = load_step1(folder, device=settings.device, dtype=getattr(torch, settings.dtype))
    batcher = ContinuousBatcher(model, max_batch=settings.max_batch)
    return OpenEngine(EngineRunner(batcher, around_step=around_pass), lambda: False)


def _open_vllm(folder: Path, settings: RoomSettings, metrics: "RoomMetrics") -> OpenEngine:
    # Triton's embedded Python starts in the C locale and reads text as ASCII; torch's compiler, which vLLM imports,
    # opens files of its own that are not, and names no encoding.
    locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    try:
        from services.shared.decoding.vllm.opening import open_vllm
    except ImportError as error:
        raise InvalidOptionError(
            f"engine (STEPAUDIO_ENGINE) is vllm, which is not installed here ({error}); install it, or choose torch"
        ) from error
    options = VllmOptions(
        dtype=settings.dtype,
        weights=settings.weights,
        max_batch=settings.max_batch,
        context_tokens=settings.context_tokens,
        tensor_parallel=settings.tensor_parallel,
        pipeline_parallel=settings.pipeline_parallel,
        memory_fraction=settings.memory_fraction,
        kv_cache_mib=settings.kv_cache_mib,
        prefill_tokens=settings.prefill_tokens,
        model_runner=settings.model_runner,
        graphs=settings.graphs,
    )
    stats = StatsTaker()
    return OpenEngine(open_vllm(folder, options, stats=stats), EngineMetrics(metrics, stats).report)


class EngineMetrics:
    """Writes vLLM's numbers into a room's metrics; used from the room's own thread only."""

    def __init__(self, metrics: "RoomMetrics", stats: StatsTaker) -> None:
        """Args: metrics: of the room. stats: where vLLM's numbers gather."""
        self._stats = stats
        self._running, self._waiting, self._cache = (
            metrics.gauge(spec) for spec in (ENGINE_RUNNING, ENGINE_WAITING, ENGINE_CACHE)
        )
        self._counters: dict[str, Any] = {
            "preemptions": metrics.counter(ENGINE_PREEMPTED),
            "prompt_tokens": metrics.counter(ENGINE_PROMPT),
            "prefix_asked_tokens": metrics.counter(ENGINE_PREFIX_ASKED),
            "prefix_found_tokens": metrics.counter(ENGINE_PREFIX_FOUND),
        }
        self._histograms: dict[str, Any] = {
            "queued_s": metrics.histogram(ENGINE_QUEUE),
            "first_token_s": metrics.histogram(ENGINE_FIRST_TOKEN),
            "token_interval_s": metrics.histogram(ENGINE_TOKEN),
        }

    def report(self) -> bool:
        """Write what has gathered; whether the engine had requests when it last told."""
        told = self._stats.take()
        self._running.set(told.running)
        self._waiting.set(told.waiting)
        self._cache.set(told.kv_cache_used)
        for name, counter in self._counters.items():
            counter.increment(getattr(told, name))
        for name, histogram in self._histograms.items():
            for value in getattr(told, name):
                histogram.observe(value)
        return bool(told.running or told.waiting)
