"""Options and requests in vLLM's own words; the only place that knows them.

Source: vLLM 0.32's AsyncEngineArgs and SamplingParams.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from vllm import AsyncEngineArgs
from vllm import SamplingParams as VllmSamplingParams
from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind

from services.shared.decoding.vllm.checkpoint import config_overrides
from services.shared.decoding.vllm.options import VllmOptions
from services.shared.decoding.vllm.repetition import PROCESSOR, REPETITION_AWARE
from services.shared.decoding.vllm.repetition_slots import SLOT_PROCESSOR
from services.shared.sampling import SamplingParams
from services.shared.step1_config import Step1Config

ATTENTION_BACKEND: Final = "TRITON_ATTN"
"""The only one of vLLM's that knows sqrt-ALiBi; it is named so that no other is ever chosen."""
_QUANTIZATION: Final = {"stored": None, "fp8": "fp8_per_channel"}


def engine_arguments(folder: Path, sizes: Step1Config, options: VllmOptions) -> AsyncEngineArgs:
    """The engine for the checkpoint in `folder`.

    Raises:
        InvalidOptionError: the model cannot be served with these options.
        CheckpointError: a file of the checkpoint is missing or damaged.
    """
    options.check(sizes)
    return AsyncEngineArgs(
        model=str(folder),
        hf_overrides=config_overrides(folder),
        trust_remote_code=False,
        skip_tokenizer_init=True,  # ids go in and come out
        generation_config="vllm",  # each request says how to generate; the checkpoint's defaults are the caller's
        load_format="safetensors",
        dtype=options.dtype,
        quantization=_QUANTIZATION[options.weights],
        attention_backend=ATTENTION_BACKEND,
        logits_processors=[PROCESSOR if options.model_runner == 1 else SLOT_PROCESSOR],
        max_model_len=options.context_of(sizes),
        max_num_seqs=options.max_batch,
        max_num_batched_tokens=max(options.prefill_tokens, options.max_batch),
        enable_chunked_prefill=True,
        enable_prefix_caching=True,
        scheduling_policy="priority",
        tensor_parallel_size=options.tensor_parallel,
        pipeline_parallel_size=options.pipeline_parallel,
        gpu_memory_utilization=options.memory_fraction,
        kv_cache_memory_bytes=options.kv_cache_mib << 20 or None,
        enforce_eager=not options.graphs,
        # vLLM's first model runner plans no step ahead across pipeline stages.
        async_scheduling=False if options.pipeline_parallel > 1 and options.model_runner == 1 else None,
        enable_log_requests=False,
    )


def request_arguments(prompt_ids: Sequence[int], params: SamplingParams, tokens: int) -> tuple[Any, VllmSamplingParams]:
    """A request that was admitted.

    Args:
        prompt_ids: [T].
        params: how to generate.
        tokens: at most so many.

    Returns:
        vLLM's prompt and sampling parameters.
    """
    allowed = None
    if params.allowed_ids is not None:
        allowed = sorted({*range(params.allowed_ids.first, params.allowed_ids.end), *params.stop_ids})
    return tokens_input(list(prompt_ids)), VllmSamplingParams(
        max_tokens=tokens,
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        seed=params.seed,
        stop_token_ids=list(params.stop_ids),
        ignore_eos=True,  # nothing but the request's own stop ids ends a reply
        allowed_token_ids=allowed,
        extra_args={REPETITION_AWARE: True} if params.repetition_aware else None,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )
