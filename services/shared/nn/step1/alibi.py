"""sqrt-ALiBi: the only sense of position that Step1 has.

A query at position i sees the key at position j <= i with its score lowered by slope * sqrt(i - j); later keys are
hidden. Distances are absolute places in the sequence, so nothing here knows about batches or padding.

Source: modeling_step1.py of the public checkpoints; slopes as in ALiBi (Press et al., 2022).
"""

import torch
from torch import Tensor


def alibi_slopes(heads: int) -> Tensor:
    """Slope of every head, fp32 [H].

    With n the largest power of two up to H: the first n heads fall by powers of 2^(-8/n), and the others take the odd
    powers of 2^(-4/n), which lie between them.
    """
    n = 1 << (heads.bit_length() - 1)
    whole = torch.pow(2.0 ** (-8.0 / n), torch.arange(1, n + 1))
    between = torch.pow(2.0 ** (-4.0 / n), 2 * torch.arange(heads - n) + 1)
    return torch.cat([whole, between]).float()


def sqrt_alibi_bias(slopes: Tensor, positions: Tensor, length: int) -> Tensor:
    """Bias to add to attention scores; -inf where a key lies after its query.

    Args:
        slopes: [H].
        positions: integers [B, T], place of each query in its sequence.
        length: number of keys L, at places 0..L-1.

    Returns:
        [B, H, T, L], fp32.
    """
    distance = positions[:, :, None] - torch.arange(length, device=positions.device)  # [B, T, L]
    hidden = distance < 0
    root = distance.clamp(min=0).float().sqrt().masked_fill(hidden, torch.inf)
    return root[:, None] * -slopes[:, None, None]
