"""A normalised mel inside an estimator whose interface stays the raw log-mel: an exact change of coordinates.

Log-mels lie at -5 with a spread of 2.6, beside noise of spread 1: in raw numbers the first convolution hardly sees the
noise it is to remove. So the parameters that training moves belong to normalised inputs and outputs,

    n = (raw - mean) / spread      for the state, mu and the prompt mel; the speaker stays as it is
    raw velocity = mean + spread * n

and `folded` gives the parameters of the same function of raw inputs: W / spread, b - W mean / spread. It holds at the
borders and where conditions are left out as well: raw zeros there are zeros before and after.
Decides: the coordinates and the first guess of the linear path. Refuses to know: losses and data.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from services.vocoder.config import MEL_CHANNELS
from services.vocoder.flow.estimator import Estimator

FIRST: Final = ("down_blocks.0.0.block1.block.0", "down_blocks.0.0.res_conv")
LAST: Final = "final_proj"
_LINEAR_BIAS: Final = 3.0
_NOISE_FREE: Final = 0.05
"""What the linear path leaves of the random weights beside it."""
_STATE, _MU, _SPEAKER, _PROMPT = range(4)


@dataclass(frozen=True, slots=True, eq=False)
class MelScale:
    """Mean and spread [80] of the log-mel, measured on what is to be learned."""

    mean: Tensor
    spread: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor]:
        """Mean and spread [320] of state, mu, speaker and prompt side by side; the state is half noise, half mel."""
        zero, one = torch.zeros_like(self.mean), torch.ones_like(self.mean)
        state = (self.mean / 2, ((self.spread**2 + 1) / 2).sqrt())
        parts = {_STATE: state, _MU: (self.mean, self.spread), _SPEAKER: (zero, one), _PROMPT: (self.mean, self.spread)}
        return torch.cat([parts[n][0] for n in range(4)]), torch.cat([parts[n][1] for n in range(4)])

    @property
    def velocity(self) -> tuple[Tensor, Tensor]:
        """Mean and spread [80] of mel minus noise."""
        return self.mean, (self.spread**2 + 1).sqrt()


def measure_scale(mels: Tensor) -> MelScale:
    """Mean and spread of mel frames [T, 80]."""
    spread, mean = torch.std_mean(mels, dim=0)
    return MelScale(mean, spread.clamp(min=0.1))


def folded(estimator: Estimator, scale: MelScale) -> dict[str, Tensor]:
    """Parameters of the raw interface, by name, for those that differ; gradients flow to the estimator's own."""
    mean, spread = scale.inputs
    out: dict[str, Tensor] = {}
    for name in FIRST:
        weight, bias = _parameters(estimator, name)
        raw = weight / spread[:, None]
        out[f"{name}.weight"] = raw
        out[f"{name}.bias"] = bias - (raw.sum(2) * mean).sum(1)
    weight, bias = _parameters(estimator, LAST)
    mean, spread = scale.velocity
    out[f"{LAST}.weight"] = weight * spread[:, None, None]
    out[f"{LAST}.bias"] = bias * spread + mean
    return out


@torch.no_grad()
def unfold(estimator: Estimator, scale: MelScale) -> None:
    """Turn parameters of the raw interface into those of normalised coordinates, in place: `folded` gives them back."""
    mean, spread = scale.inputs
    for name in FIRST:
        weight, bias = _parameters(estimator, name)
        bias += (weight.sum(2) * mean).sum(1)
        weight *= spread[:, None]
    weight, bias = _parameters(estimator, LAST)
    mean, spread = scale.velocity
    weight /= spread[:, None, None]
    bias.sub_(mean).div_(spread)


@torch.no_grad()
def start_linear(estimator: Estimator, scale: MelScale) -> None:
    """Begin with the right answer to first order: velocity = mu - state, along the residual path of the outer level.

    Channels 0 .. 79 carry (mu - state) from the first residual convolution over the skip into the last blocks, and
    nothing else is added to them at first; the last norm shifts them to where Mish is nearly linear, and the projection
    takes the shift off again. That norm also gives (mu - state) = (1 - t) velocity its right size at any time.
    """
    _, spread = scale.inputs
    _, out_spread = scale.velocity
    eye = torch.eye(MEL_CHANNELS)
    weight, bias = _parameters(estimator, FIRST[1])
    weight[:MEL_CHANNELS] = 0.0
    bias[:MEL_CHANNELS] = 0.0
    for part, sign in ((_STATE, -1.0), (_MU, 1.0)):
        block = slice(part * MEL_CHANNELS, (part + 1) * MEL_CHANNELS)
        weight[:MEL_CHANNELS, block, 0] = sign * eye * spread[block] / out_spread[:, None]
    for level in ("down_blocks.0", "up_blocks.1"):
        _silence(estimator, level)
    channels = estimator.final_proj.in_channels
    weight, _ = _parameters(estimator, "up_blocks.1.0.res_conv")
    weight[:MEL_CHANNELS] = 0.0
    weight[:MEL_CHANNELS, channels : channels + MEL_CHANNELS, 0] = eye  # the skip is the second half
    for name in ("up_blocks.1.2", "final_block.block.0"):
        weight, bias = _parameters(estimator, name)
        weight[:MEL_CHANNELS] *= _NOISE_FREE
        weight[:MEL_CHANNELS, :MEL_CHANNELS, 1] += eye
        bias[:MEL_CHANNELS] = 0.0
    estimator.get_parameter("final_block.block.1.bias")[:MEL_CHANNELS] = _LINEAR_BIAS
    weight, bias = _parameters(estimator, LAST)
    weight[:] = 0.0
    weight[:, :MEL_CHANNELS, 0] = eye
    bias[:] = -_LINEAR_BIAS


def _silence(estimator: Estimator, level: str) -> None:
    """Let the branches of an outer level begin without a share in channels 0 .. 79; they still get gradients."""
    norm_weight, norm_bias = _parameters(estimator, f"{level}.0.block2.block.1")
    for parameter in (norm_weight, norm_bias):
        parameter[:MEL_CHANNELS] *= _NOISE_FREE
    blocks = {name.split(".")[3] for name, _ in estimator.named_parameters() if name.startswith(f"{level}.1.")}
    for block in blocks:
        for last in ("attn1.to_out.0", "ff.net.2"):
            weight, bias = _parameters(estimator, f"{level}.1.{block}.{last}")
            weight[:MEL_CHANNELS] *= _NOISE_FREE
            bias[:MEL_CHANNELS] *= _NOISE_FREE


def _parameters(estimator: nn.Module, name: str) -> tuple[Tensor, Tensor]:
    return estimator.get_parameter(f"{name}.weight"), estimator.get_parameter(f"{name}.bias")
