"""Speech tokens that arrive in groups -> wave in chunks.

The flow is not causal, so each pass makes a window of mel anew and keeps the part that has enough of a future:

    tokens so far  |----------------------------------------------------------|
    window         |-- prompt --|-- lookback --|=== hop: final ===|- lookahead -|
                                               |fade|             |fade|          the next pass fades from this one
    wave           =================================| held by HiFT |

 * The encoder reads all known tokens, the estimator only prompt, lookback, hop and lookahead.
 * Every frame has its own noise (see `noise`), so two windows agree where they overlap; a short fade takes up the rest.
 * HiFT's wave is exact for the mel it is given, so no seam exists that the mel does not have.
 * The first hop is short, each later one longer, up to a limit: few passes, early sound.
 * The first pass, which the caller waits for, may take fewer steps from noise to mel. Each later one takes twice as
   many as the one before, up to all: who waits for the second has heard little yet.

The state is small and explicit: the room itself keeps nothing between two calls.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.shared.audio.crossfade import crossfade
from services.shared.errors import InvalidOptionError, StepAudioError
from services.vocoder.config import HOP_SAMPLES, MEL_CHANNELS
from services.vocoder.flow.model import EULER_STEPS, Flow, FlowJob, FrameWindow
from services.vocoder.hift.model import HiFT
from services.vocoder.hift.source import Excitation
from services.vocoder.hift.stream import HiftState, held_frames, initial_hift_state, push_mel
from services.vocoder.noise import check_seed, mel_noise, prompt_noise, source_noise, source_phase
from services.vocoder.voice import ArrayLike, VoiceFeatures

LONGEST_FIRST_HOP_FRAMES: Final = 172
"""Two seconds: who asks for later audio than this wants no stream."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How a stream is cut; frames are mel frames of 11.6 ms.

    Attributes:
        first_hop_frames: wave that the first pass waits for.
        first_limit_frames: wave that the first pass gives at most, however many tokens are pushed at once.
        first_steps: of the flow in the first pass, doubled from pass to pass up to all of them; a stream that is
            complete in one push takes all.
        hop_growth: each pass waits for this many times the wave of the pass before,
        max_hop_frames: … up to this.
        lookback_frames: finished mel that a pass sees before its hop.
        lookahead_frames: unfinished mel after the hop, made and thrown away.
        fade_frames: of the lookahead, how much is kept for the fade into the next pass.
        context_tokens: tokens that the encoder reads; older ones are forgotten once no pass needs them.
    """

    first_hop_frames: int = 26
    first_limit_frames: int = 43
    first_steps: int = EULER_STEPS
    hop_growth: float = 2.0
    max_hop_frames: int = 172
    lookback_frames: int = 86
    lookahead_frames: int = 6
    fade_frames: int = 6
    context_tokens: int = 1250

    def __post_init__(self) -> None:
        if not 0 < self.first_hop_frames <= min(self.first_limit_frames, self.max_hop_frames) or self.hop_growth < 1:
            raise InvalidOptionError(
                "hops must be above 0, grow by a factor of at least 1, and not start above the limit"
            )
        if not 0 < self.first_steps <= EULER_STEPS:
            raise InvalidOptionError(f"the first pass takes 1 to {EULER_STEPS} steps")
        if not 0 <= self.fade_frames <= self.lookahead_frames or self.lookback_frames < 0:
            raise InvalidOptionError("the fade must lie within the lookahead, and no span may be negative")


@dataclass(frozen=True, slots=True, eq=False)
class StreamState:
    """Where a stream stands between two calls: plain numbers and arrays, at most 40 KB.

    Attributes:
        seed: of all noise.
        tokens: [N] int64, the tokens that the encoder still reads.
        first_token: place of tokens[0] in the stream.
        made_frames: mel frames that are final.
        overlap: [80, K] float32, the last pass's rendering of the frames after them.
        passes: how many passes ran.
        hift: the wave's side.
    """

    seed: int
    tokens: NDArray[np.int64]
    first_token: int
    made_frames: int
    overlap: NDArray[np.float32]
    passes: int
    hift: HiftState


def initial_state(seed: int) -> StreamState:
    """The state before the first token. Raises InvalidOptionError for a seed outside 0 .. 2^63 - 1."""
    nothing = np.zeros((MEL_CHANNELS, 0), np.float32)
    return StreamState(check_seed(seed), np.zeros(0, np.int64), 0, 0, nothing, 0, initial_hift_state())


def excitation(seed: int, harmonics: int, start_frame: int, end_frame: int) -> Excitation:
    """What is random in HiFT's source for these frames."""
    return Excitation(
        torch.from_numpy(source_phase(seed, harmonics)),
        torch.from_numpy(source_noise(seed, harmonics, HOP_SAMPLES, start=start_frame, end=end_frame)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Push:
    """Tokens for one stream: the arguments of `Vocoder.chunk`, and what its caller would save or have sooner.

    Attributes:
        tokens, voice, state, final: as `Vocoder.chunk` has them.
        steps: of the flow, at most; None is as many as the settings say.
        first_hop_frames: wave that a first pass waits for; None is what the settings say.
    """

    tokens: ArrayLike
    voice: VoiceFeatures
    state: StreamState
    final: bool
    steps: int | None = None
    first_hop_frames: int | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and not 0 < self.steps <= EULER_STEPS:
            raise InvalidOptionError(f"flow_steps is {self.steps}; a pass takes 1 to {EULER_STEPS}")
        if self.first_hop_frames is not None and not 0 < self.first_hop_frames <= LONGEST_FIRST_HOP_FRAMES:
            raise InvalidOptionError(
                f"first_hop_frames is {self.first_hop_frames}; a first pass waits for 1 to {LONGEST_FIRST_HOP_FRAMES}"
            )


Chunk: TypeAlias = tuple[NDArray[np.float32], StreamState]
"""What became ready, and the next state."""

_Work: TypeAlias = Generator[FlowJob, Tensor, Chunk]
"""The work of one push: it asks for at most one window of mel, is sent it, and returns."""


class Streamer:
    """The networks of one folder with the settings of its streams; it holds no stream."""

    def __init__(self, flow: Flow, hift: HiFT, settings: StreamSettings) -> None:
        self._flow = flow
        self._hift = hift
        self._settings = settings

    def chunks(self, pushes: Sequence[Push]) -> list[Chunk | StepAudioError]:
        """Advance streams of different callers; windows of one length share the flow's passes.

        Returns:
            For each push its chunk, or what is wrong with it: no stream notices the others.
        """
        return self._together([self._chunk(push) for push in pushes])

    def mel(
        self, tokens: ArrayLike, voice: VoiceFeatures, state: StreamState, *, final: bool
    ) -> tuple[NDArray[np.float32], StreamState]:
        """The first half of a chunk: push tokens, take out the mel that became final, [80, K], K possibly 0."""
        (result,) = self._together([self._mel(Push(tokens, voice, state, final))])
        if isinstance(result, StepAudioError):
            raise result
        return result

    def _together(self, works: Sequence[_Work]) -> list[Chunk | StepAudioError]:
        """Run each work to the window it asks for, make all windows at once, and run each to its end."""
        results: dict[int, Chunk | StepAudioError] = {}
        jobs: dict[int, FlowJob] = {}
        for place, work in enumerate(works):
            try:
                jobs[place] = next(work)
            except StopIteration as end:
                results[place] = end.value
            except StepAudioError as error:
                results[place] = error
        for place, window in zip(jobs, self._flow.solve(list(jobs.values())), strict=True):
            try:
                works[place].send(window)
            except StopIteration as end:
                results[place] = end.value
            except StepAudioError as error:
                results[place] = error
        return [results[place] for place in range(len(works))]

    def _chunk(self, push: Push) -> _Work:
        mel, state = yield from self._mel(push)
        if not push.final and not mel.shape[1]:
            return np.zeros(0, np.float32), state
        samples, hift = push_mel(
            self._hift,
            torch.from_numpy(mel),
            state.hift,
            lambda start, end: excitation(state.seed, self._hift.config.harmonics, start, end),
            final=push.final,
        )
        return samples, replace(state, hift=hift)

    def _mel(self, push: Push) -> _Work:
        state, final = push.state, push.final
        pushed = np.asarray(torch.as_tensor(push.tokens).cpu(), dtype=np.int64).reshape(-1)
        state = replace(state, tokens=np.concatenate([state.tokens, pushed]))
        self._flow.check_tokens(state.tokens)
        self._flow.check_tokens(push.voice.tokens)
        settings, held = self._settings, held_frames(self._hift)
        frames = self._flow.frame_count(state.first_token + len(state.tokens))
        ready = frames if final else frames - settings.lookahead_frames
        if not final and not state.passes:
            ready = min(ready, settings.first_limit_frames + held)
            frames = ready + settings.lookahead_frames
        if not final and ready - max(state.made_frames, held) < self._hop(push):
            return state.overlap[:, :0], state
        steps = EULER_STEPS if final and not state.passes else self._steps(state.passes)
        steps = min(steps, push.steps or steps)
        mel, overlap = yield from self._pass(push.voice, state, ready, frames, steps=steps)
        dropped = self._dropped(state, ready)
        return mel, replace(
            state,
            tokens=state.tokens[dropped:],
            first_token=state.first_token + dropped,
            made_frames=ready,
            overlap=overlap,
            passes=state.passes + 1,
        )

    def _dropped(self, state: StreamState, ready: int) -> int:
        """How many of the oldest tokens can be forgotten."""
        oldest_frame = max(ready - self._settings.lookback_frames, 0)
        needed = int(oldest_frame * self._flow.tokens_per_frame) - state.first_token
        return max(min(len(state.tokens) - self._settings.context_tokens, needed), 0)

    def _hop(self, push: Push) -> float:
        settings, passes = self._settings, push.state.passes
        if push.first_hop_frames is not None and not passes:
            return min(push.first_hop_frames, settings.first_limit_frames)
        growth = settings.hop_growth ** min(passes, 32)
        return min(settings.first_hop_frames * growth, settings.max_hop_frames)

    def _steps(self, passes: int) -> int:
        return min(self._settings.first_steps << min(passes, 4), EULER_STEPS)

    def _pass(
        self, voice: VoiceFeatures, state: StreamState, ready: int, frames: int, *, steps: int
    ) -> Generator[FlowJob, Tensor, tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """The frames that become final, [80, ready - made], and the overlap for the next pass."""
        made, fade = state.made_frames, self._settings.fade_frames
        if frames <= made:
            return state.overlap[:, :0], state.overlap[:, :0]
        start = max(made - self._settings.lookback_frames, self._flow.first_frame(state.first_token), 0)
        prompt_frames = torch.as_tensor(voice.mel).shape[-2]
        noise = np.concatenate(
            [
                prompt_noise(state.seed, MEL_CHANNELS, prompt_frames),
                mel_noise(state.seed, MEL_CHANNELS, start=start, end=frames),
            ],
            axis=2,
        )
        window = FrameWindow(start, frames, state.first_token)
        made_again = yield self._flow.prepare_window(state.tokens, voice, window, noise=noise, steps=steps)
        mel = made_again[0, :, made - start :].cpu().numpy().copy()  # [80, frames - made]
        shared = min(state.overlap.shape[1], mel.shape[1])
        mel[:, :shared] = crossfade(state.overlap[:, :shared], mel[:, :shared])
        return mel[:, : ready - made], mel[:, ready - made : ready - made + fade].copy()
