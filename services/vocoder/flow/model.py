"""The flow: speech tokens and a voice -> log-mel, by Euler steps along the estimated velocity.

`Flow` decides how tokens, prompt and noise become one sequence and how guidance is mixed. The arithmetic of the release
is kept, its clamp of negative ids to 0 included. That clamp speaks text ids as if they were speech, so whoever serves
callers asks `check_tokens` first, as the room's `Vocoder` does.

    tokens  [prompt P | target N]  -> encoder (jointly) -> stretched apart to [M1 | M2] frames -> mu
    state   noise [M1 | M2]        -> 10 Euler steps under mu, speaker, prompt mel         -> mel, M1 frames cut off

Source: cosyvoice/flow/flow.py and flow_matching.py of the release.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.shared.errors import InvalidInputError, UnknownTokenError
from services.vocoder.config import HOP_SAMPLES, MEL_CHANNELS, SAMPLE_RATE_HZ, FlowConfig
from services.vocoder.flow.encoder import ConformerEncoder, LengthRegulator, sample_rows, stretch
from services.vocoder.flow.estimator import Conditions, Estimator
from services.vocoder.voice import ArrayLike, VoiceFeatures
from services.vocoder.wanted import check_wanted

EULER_STEPS = 10


@dataclass(frozen=True, slots=True)
class FrameWindow:
    """Mel frames [start, end) of an utterance, counted from its first target frame.

    Attributes:
        start, end: of the window.
        first_token: the place in the utterance of the first token that is still known; older ones are forgotten.
    """

    start: int
    end: int
    first_token: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Prompt:
    tokens: Tensor  # [P]
    mel: Tensor  # [1, M1, 80]
    speaker: Tensor  # [1, 80]


@dataclass(frozen=True, slots=True, eq=False)
class FlowJob:
    """Frames that are ready to be solved, from `Flow.prepare_window`: everything that concerns one utterance alone."""

    mu: Tensor  # [1, 80, M1 + M]
    speaker: Tensor  # [1, 80]
    prompt_mel: Tensor  # [1, M1, 80]
    noise: Tensor  # [1, 80, M1 + M]
    steps: int = EULER_STEPS


@dataclass(frozen=True, slots=True)
class _Grid:
    """Where target frames lie among tokens: spread evenly over all of them, or at nominal places from `first` on."""

    frames: int
    step: float | None = None
    first: int = 0
    first_token: int = 0

    def places(self) -> Tensor:
        """[frames] float64 places in rows."""
        assert self.step is not None
        frame = torch.arange(self.first, self.first + self.frames, dtype=torch.float64)
        return (frame + 0.5) * self.step - 0.5 - self.first_token


class Flow(nn.Module):
    """Token to mel. Build it with `load_flow`."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        self.input_embedding = nn.Embedding(config.vocab_size, config.encoder.input_size)
        self.spk_embed_affine_layer = nn.Linear(config.speaker_size, MEL_CHANNELS)
        self.encoder = ConformerEncoder(config.encoder)
        self.encoder_proj = nn.Linear(config.encoder.output_size, MEL_CHANNELS)
        self.decoder = nn.ModuleDict({"estimator": Estimator(config.estimator)})
        self.length_regulator = LengthRegulator(config.regulator_layers)

    @property
    def estimator(self) -> Estimator:
        """The velocity network."""
        estimator = self.decoder["estimator"]
        assert isinstance(estimator, Estimator)
        return estimator

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.spk_embed_affine_layer.weight.device

    @property
    def tokens_per_frame(self) -> float:
        """The nominal step of a mel frame, in tokens."""
        return self.config.token_rate_hz * HOP_SAMPLES / SAMPLE_RATE_HZ

    def frame_count(self, tokens: int) -> int:
        """Mel frames of a number of tokens; the release's float arithmetic and its truncation."""
        return int(tokens / self.config.token_rate_hz * SAMPLE_RATE_HZ / HOP_SAMPLES)

    @torch.inference_mode()
    def mel(self, tokens: ArrayLike, voice: VoiceFeatures, *, noise: ArrayLike | None = None) -> Tensor:
        """Synthesise the mel of a whole utterance.

        Args:
            tokens: [N] or [1, N] codec values; negative ones are read as 0, as released.
            voice: the prompt; it may be empty.
            noise: [1, 80, M1 + M] normal noise for the prompt's and the target's frames; drawn from torch's generator
                by default.

        Returns:
            [1, 80, M] float32 log-mel, M = `frame_count(N)`.

        Raises:
            UnknownTokenError: an id is past the vocabulary.
            InvalidInputError: no tokens, too few for one frame, or a voice or noise of the wrong shape.
        """
        prompt = self._prompt(voice)
        ids = self._ids(tokens)
        frames = self.frame_count(len(ids))
        if frames == 0:
            raise InvalidInputError(f"{len(ids)} speech tokens are too few for one mel frame")
        return self.solve([self._job(self._mu(prompt, ids, _Grid(frames)), prompt, noise)])[0]

    @torch.inference_mode()
    def prepare_window(
        self,
        tokens: ArrayLike,
        voice: VoiceFeatures,
        window: FrameWindow,
        *,
        noise: ArrayLike,
        steps: int = EULER_STEPS,
    ) -> FlowJob:
        """Prepare some frames of an utterance that is not complete yet; `solve` makes them.

        The encoder reads all tokens, the estimator only the prompt and the window, so the cost does not grow with the
        utterance's length. Frames lie at their nominal places, which later tokens do not move.

        Args:
            tokens: [N] codec values so far.
            voice: that speaks.
            window: the frames to make, `window.end` at most `frame_count(N)`.
            noise: [1, 80, M1 + W] noise of the prompt's and the window's frames.
            steps: from noise to mel; fewer are sooner done and less exact.

        Raises:
            UnknownTokenError, InvalidInputError: as `mel`, and a window outside the frames.
        """
        prompt = self._prompt(voice)
        ids = self._ids(tokens)
        known = self.first_frame(window.first_token)
        if not known <= window.start < window.end <= self.frame_count(window.first_token + len(ids)):
            raise InvalidInputError(f"frames {window.start}..{window.end} are not among those of the tokens given")
        mu = self._mu(prompt, ids, _Grid(window.end - known, self.tokens_per_frame, known, window.first_token))
        head = prompt.mel.shape[1]
        mu = torch.cat([mu[:, :, :head], mu[:, :, head + window.start - known :]], dim=2)
        return replace(self._job(mu, prompt, noise), steps=steps)

    @torch.inference_mode()
    def solve(self, jobs: Sequence[FlowJob]) -> list[Tensor]:
        """Make the frames of several utterances; those of one length and number of steps share their passes.

        Nothing is padded, so each is what it would be alone, up to the last digits.

        Returns:
            For each job [1, 80, M] float32 log-mel, the prompt's frames cut off.
        """
        places_by_kind: dict[tuple[int, int], list[int]] = defaultdict(list)
        for place, job in enumerate(jobs):
            places_by_kind[job.mu.shape[2], job.steps].append(place)
        solved: dict[int, Tensor] = {}
        for (_, steps), places in places_by_kind.items():
            made = self._integrate([jobs[place] for place in places], steps)
            for place, mel in zip(places, made, strict=True):
                solved[place] = mel[None, :, jobs[place].prompt_mel.shape[1] :]
        return [solved[place] for place in range(len(jobs))]

    def encode(self, ids: Tensor) -> Tensor:
        """Rows of tokens, prompt and target together; [1, P + N] int64 -> [1, P + N, 80]."""
        rows: Tensor = self.encoder_proj(self.encoder(self.input_embedding(ids)))
        return rows

    def integrate(
        self, noise: Tensor, mu: Tensor, speaker: Tensor, known: Tensor, *, count: int = EULER_STEPS
    ) -> Tensor:
        """Euler steps from noise to mel; the state stays float32 whatever the networks' dtype.

        Args:
            noise: [B, 80, T] float32.
            mu: [B, 80, T].
            speaker: [B, 80].
            known: [B, 80, T], the prompt mel and zeros after it.
            count: of the steps.

        Returns:
            [B, 80, T] float32.
        """
        conditions = self.estimator.conditions(mu, speaker, known)
        steps, lengths = euler_grid(self.config.time_schedule, count)
        state = noise
        for time, length in zip(self.estimator.times(steps.to(mu.device)), lengths.tolist(), strict=True):
            check_wanted()
            state = self.step(state, conditions, time, length)
        return state

    def step(self, state: Tensor, conditions: Conditions, time: tuple[Tensor, ...], length: float | Tensor) -> Tensor:
        """One Euler step under guidance; [B, 80, T] -> [B, 80, T].

        Args:
            state: [B, 80, T] float32.
            conditions, time: as `Estimator.velocity` takes them.
            length: of the step, in time.
        """
        guidance, B = self.config.guidance, state.shape[0]
        velocity = self.estimator.velocity(state, conditions, time).float()
        return state + length * ((1.0 + guidance) * velocity[:B] - guidance * velocity[B:])

    def first_frame(self, first_token: int) -> int:
        """The first mel frame that lies within the tokens from `first_token` on."""
        return math.ceil((first_token + 0.5) / self.tokens_per_frame - 0.5) if first_token else 0

    def check_tokens(self, tokens: ArrayLike) -> None:
        """Raise UnknownTokenError unless every id is a codec value: neither negative nor past the vocabulary."""
        ids = torch.as_tensor(tokens)
        if ids.numel() and int(ids.min()) < 0:
            raise UnknownTokenError(f"speech token {int(ids.min())} is outside 0..{self.config.vocab_size - 1}")
        self._ids(ids)

    def _ids(self, tokens: ArrayLike) -> Tensor:
        ids = torch.as_tensor(tokens).to(device=self.device, dtype=torch.int64).reshape(-1)
        if len(ids) and int(ids.max()) >= self.config.vocab_size:
            raise UnknownTokenError(f"speech token {int(ids.max())} is outside 0..{self.config.vocab_size - 1}")
        return ids.clamp(min=0)

    def _prompt(self, voice: VoiceFeatures) -> _Prompt:
        weight = self.spk_embed_affine_layer.weight
        tokens, mel, embedding = voice.as_tensors(
            weight.device, speaker_size=self.config.speaker_size, mel_channels=MEL_CHANNELS
        )
        speaker = self.spk_embed_affine_layer(F.normalize(embedding, dim=1).to(weight.dtype))
        return _Prompt(self._ids(tokens), mel, speaker)

    def _mu(self, prompt: _Prompt, ids: Tensor, grid: _Grid) -> Tensor:
        """[1, 80, M1 + frames] mean of the flow."""
        rows = self.encode(torch.cat([prompt.tokens, ids])[None])  # [1, P+N, 80]
        border = len(prompt.tokens)
        if grid.step is None:
            target = stretch(rows[:, border:], grid.frames)
        else:
            target = sample_rows(rows[:, border:], grid.places())
        out: Tensor = self.length_regulator(stretch(rows[:, :border], prompt.mel.shape[1]), target)
        return out

    def _job(self, mu: Tensor, prompt: _Prompt, noise: ArrayLike | None) -> FlowJob:
        """Frames with their start noise, checked or drawn."""
        if noise is None:
            state = torch.randn(mu.shape, device=mu.device)
        else:
            state = torch.as_tensor(noise).to(device=mu.device, dtype=torch.float32)
            if state.shape != mu.shape:
                raise InvalidInputError(f"the noise is {list(state.shape)}, not {list(mu.shape)}")
        return FlowJob(mu, prompt.speaker, prompt.mel, state)

    def _integrate(self, jobs: Sequence[FlowJob], count: int) -> Tensor:
        """So many Euler steps from noise to mel, [B, 80, M1 + M], for jobs of one length."""
        mu = torch.cat([job.mu for job in jobs])
        state = torch.cat([job.noise for job in jobs])
        known = torch.zeros_like(mu)
        for row, job in enumerate(jobs):
            known[row, :, : job.prompt_mel.shape[1]] = job.prompt_mel[0].t()
        return self.integrate(state, mu, torch.cat([job.speaker for job in jobs]), known, count=count)


def euler_grid(schedule: str, count: int = EULER_STEPS) -> tuple[Tensor, Tensor]:
    """Times at which the velocity is estimated and the length of each step; [count], [count] float32.

    Times are accumulated step by step in float32, as the release does.
    """
    grid = torch.linspace(0, 1, count + 1)
    if schedule == "cosine":
        grid = 1 - torch.cos(grid * 0.5 * math.pi)
    times, lengths = [grid[0]], [grid[1] - grid[0]]
    for step in range(1, count):
        times.append(times[-1] + lengths[-1])
        lengths.append(grid[step + 1] - times[-1])
    return torch.stack(times), torch.stack(lengths)
