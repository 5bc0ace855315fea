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

The state is small and explicit: the room itself keeps nothing between two calls.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.shared.audio.crossfade import crossfade
from services.shared.errors import InvalidOptionError, StepAudioError
from services.vocoder.config import HOP_SAMPLES, MEL_CHANNELS
from services.vocoder.flow.model import Flow, FlowJob, FrameWindow
from services.vocoder.hift.model import HiFT
from services.vocoder.hift.source import Excitation
from services.vocoder.hift.stream import HiftState, held_frames, initial_hift_state, push_mel
from services.vocoder.noise import check_seed, mel_noise, prompt_noise, source_noise, source_phase
from services.vocoder.voice import ArrayLike, VoiceFeatures


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How a stream is cut; frames are mel frames of 11.6 ms.

    Attributes:
        first_hop_frames: wave that the first pass waits for.
        first_limit_frames: wave that the first pass gives at most, however many tokens are pushed at once.
        hop_growth: each pass waits for this many times the wave of the pass before,
        max_hop_frames: … up to this.
        lookback_frames: finished mel that a pass sees before its hop.
        lookahead_frames: unfinished mel after the hop, made and thrown away.
        fade_frames: of the lookahead, how much is kept for the fade into the next pass.
        context_tokens: tokens that the encoder reads; older ones are forgotten once no pass needs them.
    """

    first_hop_frames: int = 26
    first_limit_frames: int = 43
    hop_growth: float = 2.0
    max_hop_frames: int = 172
    lookback_frames: int = 86
    lookahead_frames: int = 12
    fade_frames: int = 8
    context_tokens: int = 1250

    def __post_init__(self) -> None:
        if not 0 < self.first_hop_frames <= min(self.first_limit_frames, self.max_hop_frames) or self.hop_growth < 1:
            raise InvalidOptionError(
                "hops must be above 0, grow by a factor of at least 1, and not start above the limit"
            )
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
    """Tokens for one stream: the arguments of `Vocoder.chunk`."""

    tokens: ArrayLike
    voice: VoiceFeatures
    state: StreamState
    final: bool


Chunk: TypeAlias = tuple[NDArray[np.float32], StreamState]
"""Samples [N] that are ready, N >= 0, and the next state."""


@dataclass(frozen=True, slots=True, eq=False)
class _Pass:
    """What one push asks of the networks.

    Attributes:
        state: with the pushed tokens, before the pass.
        ready: frames that are final after it; None while tokens gather, and there is no pass.
        start: first frame of the window.
        job: the window for the flow; None where no new frame is due.
        final: the stream ends.
    """

    state: StreamState
    ready: int | None
    start: int
    job: FlowJob | None
    final: bool


class Streamer:
    """One voice room's streaming: pushes of any number of streams -> their chunks."""

    def __init__(self, flow: Flow, hift: HiFT, settings: StreamSettings) -> None:
        self._flow = flow
        self._hift = hift
        self._settings = settings

    def chunks(self, pushes: Sequence[Push]) -> list[Chunk | StepAudioError]:
        """Advance streams of different callers; windows of one length share the flow's passes.

        Returns:
            For each push its chunk, or what is wrong with it: no stream notices the others.
        """
        passes = [self._planned(push) for push in pushes]
        solved = iter(self._flow.solve([run.job for run in passes if isinstance(run, _Pass) and run.job]))
        results: list[Chunk | StepAudioError] = []
        for run in passes:
            if isinstance(run, StepAudioError):
                results.append(run)
            else:
                results.append(self._finish(run, next(solved) if run.job else None))
        return results

    def _planned(self, push: Push) -> _Pass | StepAudioError:
        try:
            return self._plan(push)
        except StepAudioError as error:
            return error

    def _plan(self, push: Push) -> _Pass:
        state, final = push.state, push.final
        pushed = np.asarray(torch.as_tensor(push.tokens).cpu(), dtype=np.int64).reshape(-1)
        self._flow.check_tokens(pushed)
        known = np.concatenate([state.tokens, pushed])
        frames = self._flow.frame_count(state.first_token + len(known))
        ready = frames if final else frames - self._settings.lookahead_frames
        held = held_frames(self._hift)
        if not final and not state.passes:
            ready = min(ready, self._settings.first_limit_frames + held)
            frames = ready + self._settings.lookahead_frames
        waiting = replace(state, tokens=known)
        if not final and ready - held - state.hift.sent_frames < self._hop(state.passes):
            return _Pass(waiting, None, 0, None, final)
        start = max(state.made_frames - self._settings.lookback_frames, self._flow.first_frame(state.first_token), 0)
        job = self._job(push.voice, waiting, start, frames) if frames > state.made_frames else None
        return _Pass(waiting, ready, start, job, final)

    def _job(self, voice: VoiceFeatures, state: StreamState, start: int, end: int) -> FlowJob:
        prompt_frames = torch.as_tensor(voice.mel).shape[-2]
        noise = np.concatenate(
            [
                prompt_noise(state.seed, MEL_CHANNELS, prompt_frames),
                mel_noise(state.seed, MEL_CHANNELS, start=start, end=end),
            ],
            axis=2,
        )
        window = FrameWindow(start, end, state.first_token)
        return self._flow.prepare_window(state.tokens, voice, window, noise=noise)

    def _finish(self, run: _Pass, window: Tensor | None) -> Chunk:
        """Turn the window's mel [1, 80, W] into the wave that is certain, and the next state."""
        state, ready = run.state, run.ready
        if ready is None:
            return np.zeros(0, np.float32), state
        mel, overlap = self._seam(run, ready, window)
        samples, hift = push_mel(
            self._hift,
            torch.from_numpy(mel),
            state.hift,
            lambda start, end: excitation(state.seed, self._hift.config.harmonics, start, end),
            final=run.final,
        )
        dropped = self._dropped(state, ready)
        return samples, StreamState(
            state.seed, state.tokens[dropped:], state.first_token + dropped, ready, overlap, state.passes + 1, hift
        )

    def _dropped(self, state: StreamState, ready: int) -> int:
        """How many of the oldest tokens can be forgotten."""
        oldest_frame = max(ready - self._settings.lookback_frames, 0)
        needed = int(oldest_frame * self._flow.tokens_per_frame) - state.first_token
        return max(min(len(state.tokens) - self._settings.context_tokens, needed), 0)

    def _hop(self, passes: int) -> float:
        settings = self._settings
        growth = settings.hop_growth ** min(passes, 32)
        return min(settings.first_hop_frames * growth, settings.max_hop_frames)

    def _seam(
        self, run: _Pass, ready: int, window: Tensor | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The frames that become final, [80, ready - made], and the overlap for the next pass."""
        state = run.state
        if window is None:
            return state.overlap[:, :0], state.overlap[:, :0]
        mel = window[0, :, state.made_frames - run.start :].cpu().numpy().copy()  # [80, frames - made]
        shared = min(state.overlap.shape[1], mel.shape[1])
        mel[:, :shared] = crossfade(state.overlap[:, :shared], mel[:, :shared])
        new = ready - state.made_frames
        return mel[:, :new], mel[:, new : new + self._settings.fade_frames].copy()
