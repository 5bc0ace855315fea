"""The room's HiFT with gradients, one utterance after the other.

What training needed beside the room's own code, which takes one utterance, and holds weights only once they are folded:

- `weighted` computes each convolution's weight from magnitude and direction for one forward pass; nothing is dropped.
- The trunk's additions in place drop no value that a gradient needs: they add to results of convolutions, which no
  gradient reads. Only its clamp behind `exp` does; here it makes new memory.
- The F0 predictor's activation writes into a convolution's result as well, and keeps what its own gradient reads.

A batch is a loop: at 64 channels one row of 32 frames already fills the matrix products of a core.
Refuses to know: losses and data.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from services.nano.training.autograd import Replacing
from services.vocoder.hift.layers import NormedConv
from services.vocoder.hift.model import HiFT
from services.vocoder.hift.source import Excitation


@contextmanager
def weighted(hift: HiFT) -> Iterator[None]:
    """Lend every convolution the weight of its magnitude and direction."""
    hift.make_transforms()
    convs = [module for module in hift.modules() if isinstance(module, NormedConv)]
    for conv in convs:
        norm = conv.weight_v.norm(dim=(1, 2), keepdim=True)
        weight = (conv.weight_v * (conv.weight_g / norm)).unsqueeze(2)
        conv._weight = weight.contiguous(memory_format=torch.channels_last)
    try:
        yield
    finally:
        for conv in convs:
            conv._weight = None


def synthesise(hift: HiFT, mel: Tensor, f0: Tensor) -> Tensor:
    """Waves of a batch; call inside `weighted`.

    Args:
        hift: the network.
        mel: [B, 80, M] raw log-mels.
        f0: [B, M] Hz that drives the source; gradients do not reach it.

    Returns:
        [B, N] with N = 256 M.
    """
    config = hift.config
    waves = []
    for row in range(len(mel)):
        phase = (torch.rand(1, config.harmonics, 1) * 2 - 1) * torch.pi
        noise = torch.randn(1, config.harmonics, mel.shape[2] * config.hop_samples)
        source = hift.m_source(f0[row : row + 1].detach(), Excitation(phase, noise))
        with Replacing({Tensor.clamp_: Tensor.clamp}):
            waves.append(hift(mel[row : row + 1], source))
    return torch.cat(waves)


def predicted_f0(hift: HiFT, mel: Tensor) -> Tensor:
    """[B, 80, M] -> [B, M] Hz; call inside `weighted`."""
    out: Tensor = hift.f0_predictor(mel)
    return out
