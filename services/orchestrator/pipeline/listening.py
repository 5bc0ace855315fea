"""The user's audio: kept for a while, judged frame by frame, and given to utterances.

`hear` only keeps samples and wakes who waits for them; voice activity is judged in one task of its own, in order, a few
frames at a time. Events of the client that came behind audio wait here until that audio is judged, so that everything
is handled in the order sent.

    hear ─> kept audio ─┬─> frames ─> voice activity ─> VoiceFrame ─> the core
                        └─> the open utterance ─> the tokenizer

A resume may leave a gap as long as the client was away. Its beginning is judged as the silence that it is; the rest is
told as silence without being judged, in short turns, so that an hour costs no more than a moment of the loop's time.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Final

import numpy as np

from services.orchestrator.pipeline.input_audio import SAMPLES_PER_MS, InputAudio
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.pipeline.watch import Watch
from services.orchestrator.ports.hearing import FRAME_SAMPLES, VoiceActivity, VoiceActivityDetector
from services.orchestrator.ports.rooms import Samples
from services.shared.errors import DeadlineExceededError, InvalidInputError, OverloadedError

_SILENCE: Final = np.zeros(1, np.float32)
"""One sample, which stands for any number of them without taking their memory."""
_SILENT_FRAMES: Final = 256
"""Told in one turn; the loop sees to others in between."""


class Listening:
    """What one session hears.

    Args:
        detector: judges frames.
        limits: how much is kept.
        first_sample: position of the first sample that will come.
        told: told the end and the probability of each frame, in order.
        clock: monotonic seconds.

    Attributes:
        cause_s: when what is being told came from the client; None while nothing of the client's is being told.
        audio: what is kept.
        keeps_all: an utterance may begin far back, where the client ends turns by hand.
        follows: an utterance is open.
    """

    def __init__(
        self,
        detector: VoiceActivityDetector,
        limits: PipelineLimits,
        *,
        first_sample: int,
        told: Callable[[int, float], None],
        clock: Callable[[], float],
    ) -> None:
        self.audio = InputAudio(first_sample)
        self.keeps_all = False
        self.follows = False
        self.cause_s: float | None = None
        self._detector = detector
        self._limits = limits
        self._told = told
        self._clock = clock
        self._arrivals: deque[tuple[int, float]] = deque()
        self._judged = first_sample
        self._has_frame = asyncio.Event()
        self._behind: deque[tuple[int, float, Callable[[], None]]] = deque()
        self._silences: deque[tuple[int, int]] = deque()

    @property
    def end_sample(self) -> int:
        """Position after the last sample heard."""
        return self.audio.end_sample

    def hear(self, samples: Samples, first_sample: int) -> None:
        """Take samples: what was heard before is dropped, and a gap is heard as silence.

        Raises:
            InvalidInputError: the gap is longer than any session; nothing is heard.
            OverloadedError: more audio waits to be judged than is kept.
        """
        gap = first_sample - self.audio.end_sample
        if gap > 0:
            self._skip(gap)
        elif gap < 0:
            samples = samples[-gap:]
        self.audio.append(samples)
        self._arrivals.append((self.audio.end_sample, self._clock()))
        if self._unjudged_samples > self._limits.unjudged_ms * SAMPLES_PER_MS:
            raise OverloadedError("the user's audio comes faster than it can be judged")
        self._forget()
        if self.audio.end_sample - self._judged >= FRAME_SAMPLES:
            self._has_frame.set()

    def after_audio(self, act: Callable[[], None]) -> None:
        """Do something once all whole frames heard so far are judged; at once if they are.

        Raises:
            OverloadedError: too much waits already.
        """
        if not self._behind and self.audio.end_sample - self._judged < FRAME_SAMPLES:
            act()
            return
        if len(self._behind) >= self._limits.waiting_events:
            raise OverloadedError("too many messages wait for the audio before them to be judged")
        self._behind.append((self.audio.end_sample, self._clock(), act))

    async def run(self) -> None:
        """Judge frames until cancelled.

        Raises:
            DeadlineExceededError: voice activity does not answer.
        """
        try:
            with closing(self._detector.open()) as activity, closing(Watch(self._limits.vad_s)) as watch:
                while True:
                    await self._has_frame.wait()
                    await self._judge(activity, watch)
                    if self.audio.end_sample - self._judged < FRAME_SAMPLES:
                        self._has_frame.clear()
        finally:
            self.audio.forget(self.audio.end_sample)  # an ended session is found by the garbage collector, some time

    @property
    def _unjudged_samples(self) -> int:
        """That wait for voice activity."""
        silent = sum(end - max(start, self._judged) for start, end in self._silences)
        return self.audio.end_sample - self._judged - silent

    async def _tell_silence(self) -> bool:
        """Tell the next frames if they are of a long silence; False if they have to be judged."""
        while self._silences and self._silences[0][1] - self._judged < FRAME_SAMPLES:
            self._silences.popleft()
        if not self._silences or self._judged < self._silences[0][0]:
            return False
        frames = (self._silences[0][1] - self._judged) // FRAME_SAMPLES
        self._tell([0.0] * min(frames, _SILENT_FRAMES))
        self._forget()
        await asyncio.sleep(0)
        return True

    async def _judge(self, activity: VoiceActivity, watch: Watch) -> None:
        if await self._tell_silence():
            return
        start = self._judged
        end = (
            min(self.audio.end_sample, self._silences[0][0] + FRAME_SAMPLES)
            if self._silences
            else self.audio.end_sample
        )
        frames = min((end - start) // FRAME_SAMPLES, self._limits.vad_batch_frames)
        try:
            with watch:
                probabilities = await activity.judge(self.audio.read(start, start + frames * FRAME_SAMPLES))
        except TimeoutError as error:
            raise DeadlineExceededError("voice activity was not judged in time") from error
        self._tell(probabilities)

    def _tell(self, probabilities: Sequence[float]) -> None:
        for probability in probabilities:
            self._judged += FRAME_SAMPLES
            while self._arrivals[0][0] < self._judged:
                self._arrivals.popleft()
            self.cause_s = self._arrivals[0][1]
            self._told(self._judged, probability)
            self._release()
        self.cause_s = None

    def _release(self) -> None:
        while self._behind and self._behind[0][0] - self._judged < FRAME_SAMPLES:
            _, self.cause_s, act = self._behind.popleft()
            act()

    def _skip(self, gap: int) -> None:
        if gap > self._limits.gap_ms * SAMPLES_PER_MS:
            raise InvalidInputError(
                f"{gap / SAMPLES_PER_MS / 1000:.1f} s of audio are missing; at most {self._limits.gap_ms / 1000:g} s "
                "are taken as silence",
                field="audio.first_sample",
            )
        begin = self.audio.end_sample + self._limits.judged_gap_ms * SAMPLES_PER_MS
        self.audio.append(np.broadcast_to(_SILENCE, (gap,)))
        if begin < self.audio.end_sample:
            self._silences.append((begin, self.audio.end_sample))

    def _forget(self) -> None:
        limits = self._limits
        kept_ms = limits.hearing_ms if self.keeps_all or self.follows else limits.idle_hearing_ms
        self.audio.forget(min(self.audio.end_sample - kept_ms * SAMPLES_PER_MS, self._judged))
