"""A vLLM engine for one checkpoint folder, started and ready to be asked."""

import os
from pathlib import Path
from typing import Any, Final

from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.metrics.loggers import StatLoggerBase

from services.shared.decoding.limits import RequestLimits
from services.shared.decoding.vllm.arguments import engine_arguments, request_arguments
from services.shared.decoding.vllm.checkpoint import register_step1
from services.shared.decoding.vllm.looping import LoopThread
from services.shared.decoding.vllm.options import VllmOptions
from services.shared.decoding.vllm.stats import StatsTaker
from services.shared.decoding.vllm.streams import VllmStreams
from services.shared.errors import InvalidOptionError, StepAudioError
from services.shared.step1_config import read_step1_config

# vLLM reads these from its environment and nowhere else. A process with threads, as this one is, must not be forked.
# And nothing is fetched or told to anyone outside.
_ENVIRONMENT: Final = {
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


def open_vllm(folder: str | Path, options: VllmOptions, *, stats: StatsTaker) -> VllmStreams:
    """Start vLLM on a Step1 checkpoint (Step-Audio-Chat or Step-Audio-TTS-3B).

    Args:
        folder: config.json and *.safetensors.
        options: how to serve it.
        stats: told what the engine counts.

    Raises:
        InvalidOptionError: the model cannot be served with these options.
        CheckpointError: a file is missing or damaged.
        StepAudioError: vLLM did not start; the cause and vLLM's own log say why.
    """
    os.environ.update(_ENVIRONMENT, VLLM_USE_V2_MODEL_RUNNER=str(options.model_runner - 1))
    root = Path(folder)
    sizes = read_step1_config(root)
    register_step1()
    arguments = engine_arguments(root, sizes, options)
    try:
        config = arguments.create_engine_config()
    except ValueError as error:
        raise InvalidOptionError(f"vLLM refuses {root} with {options}: {error}") from error

    class Logger(StatLoggerBase):
        """Hands every step's numbers on."""

        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            """As vLLM makes it."""

        def record(
            self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
        ) -> None:
            """One step."""
            stats.record(scheduler_stats, iteration_stats)

        def log_engine_initialized(self) -> None:
            """Nothing to tell."""

    async def start() -> AsyncLLM:
        return AsyncLLM.from_vllm_config(config, stat_loggers=[Logger], disable_log_stats=True)

    loop = LoopThread("vllm")
    try:
        engine = loop.submit(start()).result()
    except Exception as error:
        loop.close()
        raise StepAudioError(f"vLLM did not start on {root}: {error}") from error
    limits = RequestLimits(sizes.vocab_size, options.context_of(sizes))
    return VllmStreams(engine, loop, limits=limits, translate=request_arguments)
