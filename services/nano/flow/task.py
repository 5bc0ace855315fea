"""Training of the flow: the room's own modules, in batches, on conditional flow matching.

    state    x = (1 - t) z + t mel,  t = 1 - cos(u pi / 2), u even in 0 .. 1, as the solver steps
    target   mel - z
    loss     |mu - mel| + (velocity - target)^2 + 0.3 * cross-entropy of each frame's phone, read off the encoder

With R the variance of mel given mu, an estimator that ignores the noise has a velocity error of R + 1, the best one of
independent bins R / ((1 - t)^2 + t^2 R): the error falls below 1 only as mu gets near, so `noise_left` is judged too.
While mu is far, the best answer hardly depends on the noise, and an estimator that begins then unlearns to look at it:
mu is trained alone first.

Gradients of the velocity reach mu weakened, so that mu stays a mel. The distance of mels hardly minds which phone is
said, so the encoder is asked for it. Decides: loss, dropping of conditions, judgement. Refuses to know: where mels and
values come from.
"""

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Final, Protocol
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from services.nano.flow.fold import MelScale, folded
from services.nano.phones import LABELS
from services.nano.training.autograd import half_precision, out_of_place
from services.nano.training.loop import SCORE, Figures
from services.vocoder.flow import estimator as estimator_room
from services.vocoder.flow.encoder import stretch
from services.vocoder.flow.estimator import Conditions, Estimator
from services.vocoder.flow.model import Flow
from services.vocoder.voice import VoiceFeatures

DROP_SHARE: Final = 0.2
_MU_GRADIENT: Final = 0.1
_PROMPT_WEIGHT: Final = 0.2
_VELOCITY_WEIGHT: Final = 1.0
_PHONE_WEIGHT: Final = 0.3
_JUDGED_BATCHES: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class FlowBatch:
    """Utterances of one shape: prompt first, then what is to be made.

    Attributes:
        tokens: [B, P + N] codec values.
        prompt_tokens: P.
        mel: [B, 80, M1 + M] raw log-mel of both parts.
        prompt_frames: M1.
        embedding: [B, S] speaker embeddings.
        phones: [B, M1 + M] the phone that sounds in each frame.
    """

    tokens: Tensor
    prompt_tokens: int
    mel: Tensor
    prompt_frames: int
    embedding: Tensor
    phones: Tensor


class FlowData(Protocol):
    """Where batches come from."""

    def draw(self, rng: np.random.Generator) -> FlowBatch:
        """A training batch."""
        ...

    def judged(self) -> list[tuple[Tensor, VoiceFeatures, Tensor]]:
        """(tokens [N], voice, mel [1, 80, M]) of held-out utterances, the same at every call."""
        ...


class Velocity(nn.Module):
    """The estimator as one call for a batch, in raw coordinates if its parameters are `folded`."""

    def __init__(self, estimator: Estimator) -> None:
        super().__init__()
        self.estimator = estimator

    def forward(self, state: Tensor, conditions: tuple[Tensor, Tensor, Tensor], time: Tensor, kept: Tensor) -> Tensor:
        """Estimate the velocity of a batch.

        Args:
            state: [B, 80, T].
            conditions: mu [B, 80, T], speaker [B, 80], prompt mel [B, 80, T].
            time: [B] in 0..1.
            kept: [B] true where the conditions are kept.

        Returns:
            [B, 80, T].
        """
        B = len(state)
        with out_of_place(), _one_half():
            both = self.estimator.conditions(*conditions)  # rows with conditions, then as many without
            chosen = Conditions(*(_choose(part, kept, B) for part in (both.block, both.residual)))
            rows = self.estimator.times(time)  # for each row, each level's [C, 1]
            levels = tuple(torch.stack(level) for level in zip(*rows, strict=True))
            return self.estimator.velocity(state, chosen, levels)


class PhoneReader(nn.Module):
    """Encoder rows on frames [B, D, T] -> [B, classes, T] which phone sounds."""

    def __init__(self, size: int) -> None:
        super().__init__()
        wide = (nn.Conv1d(size, size, 5, padding=2) for _ in range(2))
        self.layers = nn.Sequential(
            *itertools.chain(*((conv, nn.Mish()) for conv in wide)), nn.Conv1d(size, len(LABELS), 1)
        )

    def forward(self, rows: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = self.layers(rows)
        return out


class FlowTask:
    """See `services.nano.training.loop.Task`.

    Args:
        flow: the room's network; its estimator's parameters are taken as those of normalised coordinates.
        scale: the coordinates.
        data: batches.
        estimating: train the whole flow; without it, mu alone, which is many times cheaper.
    """

    def __init__(self, flow: Flow, scale: MelScale, data: FlowData, *, estimating: bool = True) -> None:
        self.flow = flow
        self._phones = PhoneReader(flow.config.encoder.output_size)
        self.helpers: nn.Module = self._phones
        self._velocity = Velocity(flow.estimator)
        self._scale = scale
        self._data = data
        self._estimating = estimating
        self._judged: list[tuple[Tensor, VoiceFeatures, Tensor]] = []

    @property
    def network(self) -> nn.Module:
        """The flow."""
        return self.flow

    def loss(self, rng: np.random.Generator) -> tuple[Tensor, Figures]:
        """See the module."""
        batch = self._data.draw(rng)
        with half_precision():
            return self._loss(batch)

    def _loss(self, batch: FlowBatch) -> tuple[Tensor, Figures]:
        rows = encoded(self.flow, batch)
        mu = batch_mu(self.flow, batch, rows).float()
        named = F.cross_entropy(self._phones(_on_frames(rows, batch).transpose(1, 2)).float(), batch.phones)
        weight = torch.ones(mu.shape[2])
        weight[: batch.prompt_frames] = _PROMPT_WEIGHT
        weight = weight / weight.mean()
        near = ((mu - batch.mel).abs() * weight).mean()
        loss = near + _PHONE_WEIGHT * named
        figures = {"mu": near.item(), "phones": named.item()}
        if not self._estimating:
            return loss, figures
        error = (self.velocity_error(batch, mu) * weight).mean()
        return loss + _VELOCITY_WEIGHT * error, {**figures, "velocity": error.item()}

    def velocity_error(self, batch: FlowBatch, mu: Tensor) -> Tensor:
        """Squared error [B, 80, T] of the estimated velocity at random times and noise."""
        time = 1 - torch.cos(torch.rand(len(mu)) * (math.pi / 2))
        noise = torch.randn_like(batch.mel)
        kept = torch.rand(len(mu)) >= DROP_SHARE
        return (self._found(batch, mu, noise, time, kept) - (batch.mel - noise)).square()

    @torch.no_grad()
    def noise_left(self, batch: FlowBatch, mu: Tensor) -> float:
        """How much of the noise the estimate ignores: 1 where its answer does not depend on it, 0 where it removes all.

        The same mels at the same time under two draws of noise: right answers differ by exactly that difference.
        """
        time, kept = torch.full((len(mu),), 0.3), torch.ones(len(mu), dtype=torch.bool)
        one, two = torch.randn_like(batch.mel), torch.randn_like(batch.mel)
        apart = self._found(batch, mu, one, time, kept) - self._found(batch, mu, two, time, kept)
        return float((apart - (two - one)).square().mean() / (two - one).square().mean())

    def _found(self, batch: FlowBatch, mu: Tensor, noise: Tensor, time: Tensor, kept: Tensor) -> Tensor:
        """[B, 80, T] velocity on the way from this noise to the mel."""
        at = time[:, None, None]
        state = (1 - at) * noise + at * batch.mel
        mu = mu * _MU_GRADIENT + mu.detach() * (1 - _MU_GRADIENT)
        speaker = self.flow.spk_embed_affine_layer(F.normalize(batch.embedding, dim=1))
        prompt = batch.mel.clone()
        prompt[:, :, batch.prompt_frames :] = 0.0
        raw = {f"estimator.{name}": value for name, value in folded(self.flow.estimator, self._scale).items()}
        found: Tensor = functional_call(self._velocity, raw, (state, (mu, speaker, prompt), time, kept))
        return found

    def judge(self) -> Figures:
        """Distance of mu and of synthesised mels from held-out ones; how much noise the estimate ignores."""
        self._judged = self._judged or self._data.judged()
        mu = float(np.mean([self._distance_of_mu(*one) for one in self._judged]))
        if not self._estimating:
            return {SCORE: -mu, "mu": mu}
        plain = folded_flow(self.flow, self._scale)
        distances = []
        for number, (tokens, voice, mel) in enumerate(self._judged):
            frames = torch.as_tensor(voice.mel).shape[-2] + mel.shape[2]
            noise = torch.randn(1, mel.shape[1], frames, generator=torch.Generator().manual_seed(number))
            distances.append(float((plain.mel(tokens, voice, noise=noise) - mel).abs().mean()))
        batches = [self._data.draw(np.random.default_rng(number)) for number in range(_JUDGED_BATCHES)]
        mus = [batch_mu(self.flow, batch, encoded(self.flow, batch)) for batch in batches]
        velocity = np.mean([float(self.velocity_error(*pair).mean()) for pair in zip(batches, mus, strict=True)])
        left = np.mean([self.noise_left(*pair) for pair in zip(batches, mus, strict=True)])
        figures = {"mel": float(np.mean(distances)), "mu": mu, "velocity": float(velocity), "noise_left": float(left)}
        return {SCORE: -figures["mel"], **figures}

    def _distance_of_mu(self, tokens: Tensor, voice: VoiceFeatures, mel: Tensor) -> float:
        before, prompt = torch.as_tensor(voice.tokens), torch.as_tensor(voice.mel)
        whole = torch.cat([prompt.T[None], mel], dim=2)
        frames = len(prompt)
        nothing = torch.empty(0)
        batch = FlowBatch(torch.cat([before, tokens])[None], len(before), whole, frames, nothing, nothing)
        return float((batch_mu(self.flow, batch, encoded(self.flow, batch)) - whole)[:, :, frames:].abs().mean())


def encoded(flow: Flow, batch: FlowBatch) -> Tensor:
    """[B, P + N, D] rows of the room's encoder."""
    rows: Tensor = flow.encoder(flow.input_embedding(batch.tokens))
    return rows


def batch_mu(flow: Flow, batch: FlowBatch, rows: Tensor) -> Tensor:
    """[B, 80, M1 + M] what the room's `Flow` makes of encoded tokens, for a batch of one shape."""
    P, M1 = batch.prompt_tokens, batch.prompt_frames
    projected = flow.encoder_proj(rows)
    before, after = stretch(projected[:, :P], M1), stretch(projected[:, P:], batch.mel.shape[2] - M1)
    out: Tensor = flow.length_regulator(before, after)
    return out


def _on_frames(rows: Tensor, batch: FlowBatch) -> Tensor:
    """[B, P + N, D] -> [B, M1 + M, D]."""
    P, M1 = batch.prompt_tokens, batch.prompt_frames
    return torch.cat([stretch(rows[:, :P], M1), stretch(rows[:, P:], batch.mel.shape[2] - M1)], dim=1)


def folded_flow(flow: Flow, scale: MelScale) -> Flow:
    """A copy with the raw interface, ready to run and to be saved."""
    plain = deepcopy(flow)
    plain.estimator.load_state_dict({**flow.estimator.state_dict(), **folded(flow.estimator, scale)})
    return plain.requires_grad_(False).eval()


@contextmanager
def _one_half() -> Iterator[None]:
    """The room runs every state twice, with conditions and without; training runs it once, with what was chosen."""
    with mock.patch.object(estimator_room, "_for_both", lambda rows: rows):
        yield


def _choose(both: Tensor, kept: Tensor, count: int) -> Tensor:
    """[2B, C, T] -> [B, C, T]: each row's first half where kept, else its second."""
    return torch.where(kept[:, None, None], both[:count], both[count:])
