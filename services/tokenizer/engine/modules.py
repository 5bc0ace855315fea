"""The linguistic encoder as a module of plain tensors; all arithmetic is the room's own."""

import torch
from torch import Tensor, nn

from services.tokenizer.graphs import WINDOW_ROWS
from services.tokenizer.paraformer.config import FEATURE_DIM
from services.tokenizer.paraformer.sanm import MEMORY_ROWS, NEW_ROWS, Masks, SanmEncoder


class LinguisticEncoderGraph(nn.Module):
    """windows [W, 9, 560], memory [layers, 16, 2D], masks -> rows [W, 4, D], memory after them."""

    def __init__(self, encoder: SanmEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, windows: Tensor, memory: Tensor, visible: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        return self.encoder.run_windows(windows, memory, Masks(visible, present))


def encoder_inputs(encoder: SanmEncoder, windows: int, generator: torch.Generator, *, hidden: int) -> dict[str, Tensor]:
    """Inputs by name: so many windows, of whose first one `hidden` rows of memory and of whose last one are absent."""
    config = encoder.config
    visible = torch.ones(windows, 1, 1, MEMORY_ROWS + WINDOW_ROWS, dtype=torch.bool)
    present = torch.ones(windows, WINDOW_ROWS, 1)
    visible[0, ..., : NEW_ROWS * hidden] = False
    if hidden:
        visible[-1, ..., -hidden:] = False
        present[-1, -hidden:] = 0.0
    return {
        "windows": torch.randn(windows, WINDOW_ROWS, FEATURE_DIM, generator=generator),
        "memory": torch.randn(config.num_blocks, MEMORY_ROWS, 2 * config.output_size, generator=generator),
        "visible": visible,
        "present": present,
    }
