"""Training of HiFT: the room's own network on spectra, mel and F0; after that, if wanted, against discriminators.

    loss    spectra at five resolutions + 1.5 |mel - mel| + |F0 - F0| / 100 Hz
    later   + 0.1 (1 - d(made))^2 + 0.5 |features - features|,   discriminators: (1 - d(real))^2 + d(made)^2

Half of the rows are driven by the recorded F0, half by the network's own, as when it serves. The generator sees
discriminators whose parameters stand still, they see waves without a history, so one loss and one optimizer serve both.
Distances to one recording do not show what discriminators teach, so there the newest average is kept, and what pays is
for listeners to say. Decides: losses and judgement. Refuses to know: where sounds come from.
"""

from copy import deepcopy
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from services.nano.hift.data import Sound, WaveCorpus, wave_of_sound
from services.nano.hift.forward import predicted_f0, synthesise, weighted
from services.nano.hift.losses import log_mel, magnitudes, spectral_distance
from services.nano.training.loop import SCORE, Figures
from services.vocoder.hift import finish_hift
from services.vocoder.hift.layers import NormedConv, PlainConv
from services.vocoder.hift.model import HiFT

_MEL_WEIGHT: Final = 1.5
_F0_UNIT_HZ: Final = 100.0
_OWN_F0_SHARE: Final = 0.5
_ADVERSARIAL_WEIGHT: Final = 0.1
_FEATURES_WEIGHT: Final = 0.5
_VOICED_HZ: Final = 10.0
_SLOPE: Final = 0.1
_LAST_SCALE: Final = 0.1


class Discriminator(nn.Module):
    """A log spectrum [B, N] -> how real each of its regions is, with what its layers saw."""

    def __init__(self, size: int, channels: int = 16) -> None:
        super().__init__()
        self._size = size
        widths = (1, channels, channels, 2 * channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, (5, 3), stride=(2, 1 if place == 0 else 2), padding=(2, 1))
            for place, (before, after) in enumerate(pairwise(widths))
        )
        self.last = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, waves: Tensor) -> list[Tensor]:
        """Features of every layer, the judgement last."""
        x = magnitudes(waves, self._size).log()[:, None]
        out = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), _SLOPE)
            out.append(x)
        return [*out, self.last(x)]


class HiftTask:
    """See `services.nano.training.loop.Task`.

    Args:
        hift: the room's network, not folded.
        corpus: batches.
        adversarial: train against discriminators.
    """

    def __init__(self, hift: HiFT, corpus: WaveCorpus, *, adversarial: bool = False) -> None:
        self.hift = hift
        sizes = (512, 1024) if adversarial else ()
        self.helpers = nn.ModuleList(Discriminator(size) for size in sizes)
        self._corpus = corpus
        self._judgements = 0

    @property
    def network(self) -> nn.Module:
        """The generator with its F0 predictor."""
        return self.hift

    def loss(self, rng: np.random.Generator) -> tuple[Tensor, Figures]:
        """See the module."""
        batch = self._corpus.draw(rng)
        own = torch.from_numpy(rng.random(len(batch.mel)) < _OWN_F0_SHARE)[:, None]
        with weighted(self.hift):
            f0 = predicted_f0(self.hift, batch.mel)
            waves = synthesise(self.hift, batch.mel, torch.where(own, f0, batch.f0))
        spectra = spectral_distance(waves, batch.wave)
        mel = (log_mel(waves) - log_mel(batch.wave)).abs().mean()
        pitch = (f0 - batch.f0).abs().mean()
        loss = spectra + _MEL_WEIGHT * mel + pitch / _F0_UNIT_HZ
        figures = {"spectra": spectra.item(), "mel": mel.item(), "f0": pitch.item()}
        for judge in self.helpers:
            made, real, told = _compared(judge, waves, batch.wave)
            loss = loss + _ADVERSARIAL_WEIGHT * (1 - made[-1]).square().mean()
            pairs = zip(made[:-1], real[:-1], strict=True)
            features = sum((m - r.detach()).abs().mean() for m, r in pairs)
            loss = loss + _FEATURES_WEIGHT * features + told
            figures["told"] = figures.get("told", 0.0) + told.item()
        return loss, figures

    def judge(self) -> Figures:
        """How far the room's own waves of held-out mels are from the recordings."""
        room = ready(self.hift)
        kinds = {"": [(s, s.mel) for s in self._corpus.judged]}
        kinds["made_"] = [(s, s.made) for s in self._corpus.judged if s.made is not None]
        figures: dict[str, float] = {}
        for prefix, members in kinds.items():
            if members:
                rows = [_distances(room, sound, mel) for sound, mel in members]
                names = ("mel", "spectra", "f0", "voiced")
                figures |= {f"{prefix}{name}": float(v) for name, v in zip(names, np.mean(rows, axis=0), strict=True)}
        all_distances = [figures.get(f"{prefix}{name}", 0.0) for prefix in kinds for name in ("mel", "spectra")]
        self._judgements += 1
        return {SCORE: float(self._judgements) if len(self.helpers) else -sum(all_distances), **figures}


def ready(hift: HiFT) -> HiFT:
    """A folded copy, as the room runs it."""
    return finish_hift(deepcopy(hift))


@torch.no_grad()
def begin(hift: HiFT, seed: int) -> None:
    """First values of a network that learns from nothing."""
    generator = torch.Generator().manual_seed(seed)
    for module in hift.modules():
        if isinstance(module, NormedConv):
            inputs = module.weight_v.shape[1] * module.weight_v.shape[2]
            module.weight_v.normal_(0.0, inputs**-0.5, generator=generator)
            module.weight_g.copy_(module.weight_v.norm(dim=(1, 2), keepdim=True))
        elif isinstance(module, PlainConv):
            inputs = module.weight.shape[1] * module.weight.shape[2]
            module.weight.normal_(0.0, inputs**-0.5, generator=generator)
    hift.conv_post.get_parameter("weight_g").mul_(_LAST_SCALE)


def _compared(judge: nn.Module, waves: Tensor, real: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Features of made and real waves, and the discriminator's own loss."""
    still = {name: value.detach() for name, value in judge.named_parameters()}
    made: list[Tensor] = functional_call(judge, still, (waves,))
    on_real, on_made = judge(real), judge(waves.detach())
    told = (1 - on_real[-1]).square().mean() + on_made[-1].square().mean()
    return made, on_real, told


def _distances(room: HiFT, sound: Sound, mel: object) -> tuple[float, float, float, float]:
    """Distances of mel, spectra and F0 (Hz, where both are voiced), and the share of frames voiced as recorded."""
    torch.manual_seed(0)
    frames = torch.from_numpy(np.asarray(mel, np.float32)).T[None]
    found, wanted = room.wave(frames), wave_of_sound(sound)
    f0, recorded = room.f0(frames)[0], torch.from_numpy(sound.f0.astype(np.float32))
    here, there = f0 > _VOICED_HZ, recorded > _VOICED_HZ
    both = here & there
    pitch = float((f0 - recorded)[both].abs().mean()) if both.any() else 0.0
    near = (log_mel(found) - log_mel(wanted)).abs().mean()
    return float(near), float(spectral_distance(found, wanted)), pitch, float((here == there).float().mean())
