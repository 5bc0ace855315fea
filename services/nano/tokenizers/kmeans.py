"""k-means: rows to centroids, by Lloyd's steps from k-means++ seeds.

Decides: how the seeds are drawn and what becomes of empty clusters. Refuses to know: what the rows are.
"""

from typing import Final

import torch
from torch import Tensor

_STEPS: Final = 25
_SEED_ROWS: Final = 20_000
_BLOCK: Final = 16_384


def kmeans(
    rows: Tensor, count: int, weights: Tensor, *, seed: int, steps: int = _STEPS, start: Tensor | None = None
) -> tuple[Tensor, float]:
    """Find centroids.

    Args:
        rows: [N, D] float32, N >= count.
        count: K.
        weights: [N] how much each row counts.
        seed: of the draw of the seeds.
        steps: Lloyd's steps.
        start: [K, D] to begin with instead of seeds.

    Returns:
        ([K, D] centroids, the share of the rows' variance that is left).
    """
    if start is None:
        generator = torch.Generator().manual_seed(seed)
        some = rows[torch.randperm(len(rows), generator=generator)[:_SEED_ROWS]]
        start = _spread_seeds(some, count, generator)
    centroids = start
    distances = rows.new_zeros(len(rows))
    for _ in range(steps):
        nearest, distances = assign(rows, centroids)
        totals = rows.new_zeros(count).index_add_(0, nearest, weights)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, rows * weights[:, None])
        centroids = torch.where(totals[:, None] > 0, sums / totals.clamp(min=1e-9)[:, None], centroids)
        empty = totals == 0
        if empty.any():  # empty clusters move to the rows that fit worst
            centroids[empty] = rows[distances.topk(int(empty.sum())).indices]
    mean = (rows * weights[:, None]).sum(0) / weights.sum()
    left = (assign(rows, centroids)[1] * weights).sum() / ((rows - mean).square().sum(1) * weights).sum()
    return centroids, float(left)


def assign(rows: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest centroid [N] of each row and the squared distance [N] to it."""
    half_norms = centroids.square().sum(1) / 2
    best = [(half_norms - block @ centroids.T).min(1) for block in rows.split(_BLOCK)]
    nearest = torch.cat([found.indices for found in best])
    squared = 2 * torch.cat([found.values for found in best]) + rows.square().sum(1)
    return nearest, squared.clamp(min=0.0)


def _spread_seeds(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """k-means++: each seed is a row drawn with the squared distance to the seeds before it."""
    first = int(torch.randint(len(rows), (1,), generator=generator))
    chosen = [rows[first]]
    distances = (rows - rows[first]).square().sum(1)
    for _ in range(count - 1):
        total = float(distances.sum())
        shares = distances if total > 0 else torch.ones_like(distances)
        chosen.append(rows[int(torch.multinomial(shares, 1, generator=generator))])
        distances = torch.minimum(distances, (rows - chosen[-1]).square().sum(1))
    return torch.stack(chosen)
