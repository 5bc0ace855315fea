"""Options and requests in vLLM's own words, taken by vLLM itself."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed: it has an environment of its own")

from safetensors.torch import save_file
from transformers import AutoConfig
from vllm import AsyncEngineArgs
from vllm.sampling_params import RequestOutputKind
from vllm.v1.attention.backends.registry import AttentionBackendEnum

from services.shared.decoding.vllm.arguments import engine_arguments, request_arguments
from services.shared.decoding.vllm.checkpoint import Step1HfConfig, config_overrides, register_step1
from services.shared.decoding.vllm.opening import open_vllm
from services.shared.decoding.vllm.options import VllmOptions
from services.shared.decoding.vllm.repetition import PROCESSOR, REPETITION_AWARE
from services.shared.decoding.vllm.repetition_slots import SLOT_PROCESSOR
from services.shared.decoding.vllm.stats import StatsTaker
from services.shared.errors import CorruptFileError, InvalidOptionError, MissingFileError
from services.shared.paths import CHAT_FOLDER
from services.shared.sampling import IdRange, SamplingParams
from services.shared.step1_config import read_step1_config
from tests.conftest import NANO

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("default")]  # vLLM's own warnings are its own

CHAT = NANO / CHAT_FOLDER
SMALL = VllmOptions(dtype="float32", context_tokens=1024, kv_cache_mib=32, graphs=False)


def config(options: VllmOptions, folder: Path = CHAT) -> Any:
    register_step1()
    return engine_arguments(folder, read_step1_config(folder), options).create_engine_config()


@pytest.fixture(autouse=True)
def first_model_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", "0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_the_engine_is_told_everything_that_it_must_not_choose_for_itself() -> None:
    made = config(replace(SMALL, max_batch=4, prefill_tokens=64))
    assert made.attention_config.backend is AttentionBackendEnum.TRITON_ATTN
    assert made.scheduler_config.policy == "priority"
    assert made.scheduler_config.enable_chunked_prefill
    assert (made.scheduler_config.max_num_seqs, made.scheduler_config.max_num_batched_tokens) == (4, 64)
    assert made.cache_config.enable_prefix_caching
    assert made.cache_config.kv_cache_memory_bytes == 32 << 20
    assert made.model_config.max_model_len == 1024
    assert made.model_config.dtype == torch.float32
    assert made.model_config.enforce_eager
    assert made.model_config.logits_processors == [PROCESSOR]
    assert made.model_config.skip_tokenizer_init
    assert not made.use_v2_model_runner


def test_the_second_model_runner_is_given_the_rule_in_its_own_kind() -> None:
    options = replace(SMALL, model_runner=2, pipeline_parallel=2)
    made = engine_arguments(
        CHAT, read_step1_config(CHAT), options
    )  # a whole configuration of it needs Triton's compiler
    assert made.logits_processors == [SLOT_PROCESSOR]
    assert made.async_scheduling is None
    first = engine_arguments(CHAT, read_step1_config(CHAT), replace(options, model_runner=1))
    assert (first.logits_processors, first.async_scheduling) == ([PROCESSOR], False)


def test_the_model_is_vllms_own_and_its_config_ours() -> None:
    model = config(SMALL).model_config
    assert model.architectures == ["Step1ForCausalLM"]
    assert type(model.hf_config) is Step1HfConfig
    assert not model.trust_remote_code
    assert (model.get_vocab_size(), model.get_head_size(), model.get_total_num_kv_heads()) == (
        read_step1_config(CHAT).vocab_size,
        24,
        2,
    )


@pytest.mark.parametrize(("tensor", "pipeline"), [(1, 1), (2, 1), (4, 1), (2, 5)])
def test_a_model_is_cut_up_as_asked(tensor: int, pipeline: int) -> None:
    made = config(replace(SMALL, tensor_parallel=tensor, pipeline_parallel=pipeline))
    parallel = made.parallel_config
    assert (parallel.tensor_parallel_size, parallel.pipeline_parallel_size) == (tensor, pipeline)
    assert not (pipeline > 1 and made.scheduler_config.async_scheduling)


def test_weights_are_quantized_to_fp8_where_asked() -> None:
    assert config(SMALL).quant_config is None
    assert config(replace(SMALL, dtype="bfloat16", weights="fp8")).model_config.quantization == "fp8_per_channel"


def test_quantized_weights_of_a_checkpoint_are_taken_as_its_config_says(tmp_path: Path) -> None:
    settings = {
        "quant_method": "compressed-tensors", "format": "int-quantized", "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
            "num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True, "dynamic": False,
        }, "input_activations": {
            "num_bits": 8, "type": "int", "strategy": "token", "symmetric": True, "dynamic": True,
        }}},
    }  # fmt: skip
    made = config(replace(SMALL, dtype="bfloat16"), checkpoint(tmp_path, quantization_config=settings))
    assert made.model_config.quantization == "compressed-tensors"
    assert made.quant_config.ignore == ["lm_head"]


def checkpoint(folder: Path, *, head: bool = True, **more: Any) -> Path:
    values = json.loads((CHAT / "config.json").read_text())
    del values["tie_word_embeddings"]
    (folder / "config.json").write_text(json.dumps({**values, **more}))
    names = ["model.embed_tokens.weight", *(["lm_head.weight"] if head else [])]
    save_file({name: torch.zeros(2) for name in names}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("head", [True, False])
def test_the_head_is_the_files_own_where_they_hold_one(tmp_path: Path, head: bool) -> None:
    assert config(SMALL, checkpoint(tmp_path, head=head)).model_config.hf_config.tie_word_embeddings is not head


def test_the_head_of_a_sharded_checkpoint_is_found_in_its_index(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "model-2.safetensors"}}))
    assert config_overrides(tmp_path)["tie_word_embeddings"] is False
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": "model-1.safetensors"}}))
    assert config_overrides(tmp_path)["tie_word_embeddings"] is True
    index.write_text("[]")
    with pytest.raises(CorruptFileError, match="weight_map"):
        config_overrides(tmp_path)


def test_weights_that_are_missing_or_damaged_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"model\.safetensors"):
        config_overrides(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no")
    with pytest.raises(CorruptFileError, match=r"model\.safetensors"):
        config_overrides(tmp_path)


def test_code_of_a_checkpoint_is_not_run_for_its_config(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, auto_map={"AutoConfig": "configuration_step1.Step1Config"})
    (folder / "configuration_step1.py").write_text("raise RuntimeError('executed')\n")
    assert type(config(SMALL, folder).model_config.hf_config) is Step1HfConfig
    assert type(AutoConfig.from_pretrained(folder)) is Step1HfConfig


def test_what_vllm_refuses_is_an_option_out_of_range(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: AsyncEngineArgs) -> None:
        raise ValueError("no such device")

    monkeypatch.setattr(AsyncEngineArgs, "create_engine_config", refuse)
    with pytest.raises(InvalidOptionError, match="no such device"):
        open_vllm(CHAT, SMALL, stats=StatsTaker())


def test_a_request_says_all_that_vllm_would_else_decide() -> None:
    asked = SamplingParams(
        max_new_tokens=99, temperature=0.6, top_k=40, top_p=0.9, seed=7, stop_ids=(3, 9), repetition_aware=True
    )
    prompt, made = request_arguments([1, 2, 3], asked, 20)
    assert prompt == {"type": "token", "prompt_token_ids": [1, 2, 3]}
    assert (made.max_tokens, made.temperature, made.top_k, made.top_p, made.seed) == (20, 0.6, 40, 0.9, 7)
    assert made.stop_token_ids == [3, 9]
    assert made.ignore_eos
    assert not made.detokenize
    assert made.output_kind is RequestOutputKind.DELTA
    assert made.extra_args == {REPETITION_AWARE: True}
    assert made.allowed_token_ids is None
    assert (made.repetition_penalty, made.presence_penalty, made.frequency_penalty, made.min_p) == (1, 0, 0, 0)


def test_the_edges_of_sampling_mean_the_same_to_vllm() -> None:
    greedy = request_arguments([1], SamplingParams(max_new_tokens=1, temperature=0, top_k=0), 1)[1]
    assert greedy.temperature == 0
    open_wide = request_arguments([1], SamplingParams(max_new_tokens=1, temperature=1, top_k=0), 1)[1]
    assert (open_wide.top_k, open_wide.top_p, open_wide.seed, open_wide.extra_args) == (0, 1, None, None)


def test_allowed_ids_are_the_range_and_the_stop_ids() -> None:
    asked = SamplingParams(max_new_tokens=1, stop_ids=(3,), allowed_ids=IdRange(10, 13))
    assert request_arguments([1], asked, 1)[1].allowed_token_ids == [3, 10, 11, 12]
