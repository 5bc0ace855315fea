"""Rows as codes while the encoder still learns: what a nearest centroid loses, the encoder learns to do without.

A row becomes its centroid on the way forward, and the gradient passes as if it had not (van den Oord et al., 2017); the
centroid is pulled to its rows, and the rows, more weakly, to their centroid. Decides: how hard. Refuses to know: what
rows are.
"""

from typing import Final

from torch import Tensor, nn
from torch.nn import functional as F

from services.nano.tokenizers.kmeans import assign

CENTROIDS: Final = "codes.centroids"
"""Name of the codebook among a task's helpers."""
_PULL_OF_ROWS: Final = 0.25


class Quantiser(nn.Module):
    """A codebook that learns.

    Args:
        centroids: [K, D] to begin with.
    """

    def __init__(self, centroids: Tensor) -> None:
        super().__init__()
        self.centroids = nn.Parameter(centroids.clone())

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Quantise.

        Args:
            rows: [B, R, D].

        Returns:
            ([B, R, D] centroids with the rows' gradient, the loss that pulls both together).
        """
        nearest = assign(rows.detach().flatten(0, 1), self.centroids.detach())[0]
        chosen = self.centroids[nearest].view_as(rows)
        pull = F.mse_loss(chosen, rows.detach()) + _PULL_OF_ROWS * F.mse_loss(rows, chosen.detach())
        return rows + (chosen - rows).detach(), pull
