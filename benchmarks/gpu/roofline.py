"""Operations and bytes of the rooms' work, and the shortest time in which a device could do it.

    time at best = max(operations / peak, bytes / bandwidth)

Counted: products (two operations for a multiplication with its addition), every weight once for each pass that reads
it, keys and values of the context. Not counted: activations, which a good kernel keeps on the chip; so a fraction of
this roofline is never flattered.

Source of peaks: NVIDIA's data sheets, dense bfloat16 and memory bandwidth.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from services.shared.step1_config import Step1Config

CHAT_130B: Final = Step1Config(
    hidden_size=12_288,
    intermediate_size=31_232,
    num_attention_heads=96,
    num_attention_groups=8,
    num_hidden_layers=88,
    vocab_size=65_536,
    max_seq_len=32_768,
    rms_norm_eps=1e-5,
    eos_ids=(3,),
)
"""Sizes by which the chart's estimates are made: about 130 billion weights. The checkpoint's config.json decides."""


@dataclass(frozen=True, slots=True)
class Peak:
    """What a device could do at best: operations a second in dense bfloat16, bytes a second."""

    operations: float
    bytes: float

    def times(self, devices: int) -> "Peak":
        """So many devices together."""
        return Peak(devices * self.operations, devices * self.bytes)


PEAKS: Final = {
    "L20": Peak(119.5e12, 864e9),
    "L40S": Peak(362e12, 864e9),
    "A100": Peak(312e12, 2039e9),
    "A800": Peak(312e12, 2039e9),
    "H20": Peak(148e12, 4000e9),
    "H100": Peak(989e12, 3350e9),
    "H800": Peak(989e12, 3350e9),
    "H200": Peak(989e12, 4800e9),
}


def peak_of(device_name: str) -> Peak | None:
    """The peak of a device by the name that the driver gives it; None for one that is not listed."""
    words = device_name.replace("-", " ").split()
    return next((peak for name, peak in PEAKS.items() if name in words), None)


@dataclass(frozen=True, slots=True)
class Work:
    """Operations and bytes of a piece of work."""

    operations: float
    bytes: float

    def __add__(self, other: "Work") -> "Work":
        return Work(self.operations + other.operations, self.bytes + other.bytes)

    def __mul__(self, times: int) -> "Work":
        return Work(times * self.operations, times * self.bytes)

    def best_s(self, peak: Peak) -> float:
        """The shortest time on a device."""
        return max(self.operations / peak.operations, self.bytes / peak.bytes)


def step1_weights(config: Step1Config) -> int:
    """Weights that every step multiplies: all but norms and the table of embeddings."""
    hidden, width = config.hidden_size, config.num_attention_groups * config.head_dim
    attention = 2 * hidden * hidden + 2 * hidden * width
    return config.num_hidden_layers * (attention + 3 * hidden * config.intermediate_size) + config.vocab_size * hidden


def step1_decode(config: Step1Config, *, batch: int, context: int, bytes_per_number: int = 2) -> Work:
    """One decoding step of `batch` replies whose contexts hold `context` tokens, the new one included."""
    weights = step1_weights(config)
    cached = 2 * config.num_hidden_layers * config.num_attention_groups * config.head_dim * context
    attention = 4 * config.num_hidden_layers * config.hidden_size * context
    return Work(batch * (2 * weights + attention), bytes_per_number * (weights + batch * cached))


def counted(job: Callable[[], object]) -> float:
    """Operations of the products that a torch job runs."""
    with FlopCounterMode(display=False, custom_mapping=_ON_CPUS) as counter:
        job()
    return float(counter.get_total_flops())


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: object) -> int:
    """Operations of attention over shapes [B, H, T, D]; each group of keys and values serves its heads."""
    batch, heads, rows, width = query
    return 2 * batch * heads * rows * key[2] * (width + value[3])


_ON_CPUS: Final = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
"""Torch counts its attention on CUDA devices, and forgets the one on CPUs."""


def weight_bytes(*modules: nn.Module) -> int:
    """Bytes of all weights of modules that torch holds."""
    return sum(p.numel() * p.element_size() for module in modules for p in module.parameters() if not p.is_meta)
