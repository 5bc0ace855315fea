"""The vocoder's networks as modules of plain tensors, one for each graph; all arithmetic is the room's own."""

import torch
from torch import Tensor, nn

from services.vocoder.config import MEL_CHANNELS
from services.vocoder.flow.estimator import Conditions
from services.vocoder.flow.model import Flow
from services.vocoder.hift.model import HiFT


class FlowEncoderGraph(nn.Module):
    """ids [1, N] -> rows [1, N, 80]."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, ids: Tensor) -> Tensor:
        """See the class."""
        return self.flow.encode(ids)


class FlowConditionsGraph(nn.Module):
    """mu [B, 80, T], speaker [B, 80], known [B, 80, T] -> block, residual [2B, C, T]."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, mu: Tensor, speaker: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        share = self.flow.estimator.conditions(mu, speaker, known)
        return share.block, share.residual


class FlowStepGraph(nn.Module):
    """state [B, 80, T], block and residual [2B, C, T], time [levels, C], length [1] -> next state [B, 80, T]."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, state: Tensor, block: Tensor, residual: Tensor, time: Tensor, length: Tensor) -> Tensor:
        """See the class."""
        return self.flow.step(state, Conditions(block, residual), tuple(time[:, :, None].unbind()), length)


class HiftF0Graph(nn.Module):
    """mel [1, 80, M] -> f0 [1, M]."""

    def __init__(self, hift: HiFT) -> None:
        super().__init__()
        self.hift = hift

    def forward(self, mel: Tensor) -> Tensor:
        """See the class."""
        return self.hift.predict_f0(mel)


class HiftWaveGraph(nn.Module):
    """mel [1, 80, M], source [M, hop] -> wave [M, hop]: rows, so that both lengths are one axis."""

    def __init__(self, hift: HiFT) -> None:
        super().__init__()
        self.hift = hift

    def forward(self, mel: Tensor, source: Tensor) -> Tensor:
        """See the class."""
        return self.hift.render(mel, source.reshape(1, 1, -1)).reshape(source.shape)


def flow_inputs(flow: Flow, streams: int, frames: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Inputs for any of the flow's graphs, by name; as many tokens as frames."""
    sizes = flow.config.estimator
    share = (2 * streams, sizes.channels, frames)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "ids": torch.randint(0, flow.config.vocab_size, (1, frames), generator=generator),
        "mu": normal(streams, MEL_CHANNELS, frames),
        "speaker": normal(streams, MEL_CHANNELS),
        "known": normal(streams, MEL_CHANNELS, frames),
        "state": normal(streams, MEL_CHANNELS, frames),
        "block": normal(*share),
        "residual": normal(*share),
        "time": normal(4 + sizes.mid_levels, sizes.channels),
        "length": torch.full((1,), 0.1),
    }


def hift_inputs(hift: HiFT, frames: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Inputs for any of HiFT's graphs, by name."""
    return {
        "mel": torch.randn(1, MEL_CHANNELS, frames, generator=generator) - 5,
        "source": torch.randn(frames, hift.config.hop_samples, generator=generator).mul(0.1),
    }
