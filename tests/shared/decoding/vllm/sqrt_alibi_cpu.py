"""vLLM's attention with sqrt-ALiBi on a CPU, in plain torch: what TRITON_ATTN computes where there is a GPU.

vLLM's own CPU backend knows linear ALiBi only. This one takes its place through vLLM's registry, by the plugin that
`install_plugin` writes; all else of vLLM (scheduler, paged cache, model, sampler) is what runs on GPUs too.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from vllm.v1.attention.backend import AttentionBackend, AttentionImpl, AttentionMetadataBuilder, KVCacheLayout
from vllm.v1.attention.backends.registry import AttentionBackendEnum, register_backend

from services.shared.nn.step1.alibi import sqrt_alibi_bias


def register() -> None:
    """Called by vLLM in each of its processes."""
    register_backend(AttentionBackendEnum.CPU_ATTN, f"{__name__}.SqrtAlibiBackend")


def install_plugin(folder: Path) -> None:
    """Make `folder`, once it is on the path, a distribution that tells vLLM of `register`."""
    info = folder / "sqrt_alibi_cpu-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sqrt-alibi-cpu\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[vllm.general_plugins]\nsqrt_alibi_cpu = {__name__}:register\n")


@dataclass
class Step:
    starts: list[int]
    lengths: list[int]
    blocks: Tensor  # [requests, blocks]
    slots: Tensor  # [tokens]


class Builder(AttentionMetadataBuilder[Step]):
    def __init__(self, kv_cache_spec: Any, layer_names: list[str], vllm_config: Any, device: torch.device) -> None:
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)

    def build(self, common_prefix_len: int, common_attn_metadata: Any, fast_build: bool = False) -> Step:
        common = common_attn_metadata
        return Step(
            common.query_start_loc.tolist(), common.seq_lens.tolist(), common.block_table_tensor, common.slot_mapping
        )


class Impl(AttentionImpl):
    def __init__(
        self, num_heads: int, head_size: int, scale: float, num_kv_heads: int, alibi_slopes: list[float], *_: Any,
        use_alibi_sqrt: bool = False, **__: Any,
    ) -> None:  # fmt: skip
        assert use_alibi_sqrt
        self._heads, self._head_size, self._scale, self._groups = num_heads, head_size, scale, num_kv_heads
        self._slopes = torch.tensor(alibi_slopes)

    def forward(
        self, layer: Any, query: Tensor, key: Tensor, value: Tensor, kv_cache: Tensor, attn_metadata: Step | None,
        output: Tensor, output_scale: Any = None, output_block_scale: Any = None,
    ) -> Tensor:  # fmt: skip
        """query [N, H, d], key and value [N, G, d], kv_cache [blocks, G, block, 2d] -> output [N, H * d]."""
        if attn_metadata is None:
            return output.zero_()
        step, block = attn_metadata, kv_cache.shape[2]
        slots = step.slots[: step.starts[-1]]
        kv_cache[slots // block, :, slots % block] = torch.cat([key, value], -1)[: len(slots)].to(kv_cache.dtype)
        for row, length in enumerate(step.lengths):
            start, end = step.starts[row], step.starts[row + 1]
            if start == end:
                continue
            blocks = step.blocks[row, : -(-length // block)].long()
            held = kv_cache[blocks].transpose(1, 2).flatten(0, 1)[:length].float()  # [L, G, 2d]
            keys, values = (
                part.repeat_interleave(self._heads // self._groups, 1).transpose(0, 1)
                for part in held.split(self._head_size, -1)
            )
            bias = sqrt_alibi_bias(self._slopes, torch.arange(length - (end - start), length)[None], length)[0]
            scores = query[start:end].transpose(0, 1).float() @ keys.transpose(1, 2) * self._scale + bias
            mixed = scores.softmax(-1) @ values  # [H, T, d]
            output[start:end] = mixed.transpose(0, 1).reshape(output[start:end].shape).to(output.dtype)
        return output


class SqrtAlibiBackend(AttentionBackend):
    forward_includes_kv_cache_update = True
    supported_dtypes = (torch.float32, torch.bfloat16)
    supported_kv_cache_dtypes = ("auto",)

    @staticmethod
    def get_name() -> str:
        return "CPU_ATTN"

    @staticmethod
    def get_impl_cls() -> type[Impl]:
        return Impl

    @staticmethod
    def get_builder_cls() -> type[Builder]:
        return Builder

    @classmethod
    def supported_kv_cache_layouts(cls) -> tuple[KVCacheLayout, ...]:
        return (KVCacheLayout.LBHNC,)

    @classmethod
    def supports_alibi_sqrt(cls) -> bool:
        return True
