"""The user's audio: kept for a while, judged frame by frame, and given to utterances.

`hear` keeps samples and asks voice activity about the frames that are whole, in order and a few at a time. No task
stands between, which would wake up to ask and again to be answered, dozens of times a second. Events of the client that
came behind audio wait here until that audio is judged, so that everything is handled in the order sent.

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
from services.orchestrator.ports.hearing import FRAME_SAMPLES, VoiceActivity, VoiceActivityDetector
from services.orchestrator.ports.rooms import Samples
from services.shared.errors import DeadlineExceededError, InvalidInputError, OverloadedError, StepAudioError

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
        self._most_unjudged = limits.unjudged_ms * SAMPLES_PER_MS
        self._judged = first_sample
        self._activity: VoiceActivity | None = None
        self._answer: asyncio.Future[tuple[float, ...]] | None = None
        self._asked_s = 0.0
        self._failed: asyncio.Future[None] | None = None
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
        unjudged = self.audio.end_sample - self._judged
        if unjudged > self._most_unjudged and unjudged - self._silent_samples > self._most_unjudged:
            raise OverloadedError("the user's audio comes faster than it can be judged")
        if unjudged >= FRAME_SAMPLES:
            self._judge()

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
        """Have frames judged until cancelled.

        Raises:
            DeadlineExceededError: voice activity does not answer.
        """
        loop = asyncio.get_running_loop()
        failed = self._failed = loop.create_future()
        with closing(self._detector.open()) as activity:
            self._activity = activity
            try:
                self._judge()
                while not failed.done():
                    since_s = self._asked_s if self._answer is not None else loop.time()
                    left_s = since_s + self._limits.vad_s - loop.time()
                    if left_s <= 0:
                        raise DeadlineExceededError("voice activity was not judged in time")
                    await asyncio.wait([failed], timeout=left_s)
                failed.result()
            finally:
                self._activity = None
                if self._answer is not None:
                    self._answer.cancel()
                self.audio.forget(self.audio.end_sample)  # an ended session is found by the collector, some time

    @property
    def _silent_samples(self) -> int:
        """Of those that were not judged, what need not be."""
        return sum(end - max(start, self._judged) for start, end in self._silences)

    def _has_told_silence(self) -> bool:
        """Tell the next frames if they are of a long silence; False if they have to be judged."""
        while self._silences and self._silences[0][1] - self._judged < FRAME_SAMPLES:
            self._silences.popleft()
        if not self._silences or self._judged < self._silences[0][0]:
            return False
        frames = (self._silences[0][1] - self._judged) // FRAME_SAMPLES
        self._tell([0.0] * min(frames, _SILENT_FRAMES))
        return True

    def _judge(self) -> None:
        """Ask about the next frames, unless an answer is waited for; each answer asks about those that follow."""
        while self._activity is not None and self._answer is None:
            if self.audio.end_sample - self._judged < FRAME_SAMPLES:
                return
            if self._silences and self._has_told_silence():
                asyncio.get_running_loop().call_soon(self._go_on)
                return
            try:
                self._answer = asyncio.ensure_future(self._activity.judge(self._next_frames()))
            except StepAudioError as error:
                self._fail(error)
                return
            if not self._answer.done():
                self._asked_s = asyncio.get_running_loop().time()
                self._answer.add_done_callback(self._go_on)
                return
            self._take(self._answer)

    def _next_frames(self) -> Samples:
        start, end = self._judged, self.audio.end_sample
        if self._silences:
            end = min(end, self._silences[0][0] + FRAME_SAMPLES)
        frames = min((end - start) // FRAME_SAMPLES, self._limits.vad_batch_frames)
        return self.audio.read(start, start + frames * FRAME_SAMPLES)

    def _go_on(self, answer: "asyncio.Future[tuple[float, ...]] | None" = None) -> None:
        """Called by the loop, which would only log an error of whoever is told: `run` raises it."""
        try:
            if answer is not None:
                self._take(answer)
            self._judge()
        except Exception as error:  # noqa: BLE001 - whatever it is, `run` raises it
            self._fail(error)

    def _take(self, answer: "asyncio.Future[tuple[float, ...]]") -> None:
        self._answer = None
        if answer.cancelled() or self._activity is None:
            return
        error = answer.exception()
        if error is None:
            self._tell(answer.result())
            return
        self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._activity = None
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    def _tell(self, probabilities: Sequence[float]) -> None:
        for probability in probabilities:
            self._judged += FRAME_SAMPLES
            while self._arrivals[0][0] < self._judged:
                self._arrivals.popleft()
            self.cause_s = self._arrivals[0][1]
            self._told(self._judged, probability)
            self._release()
        self.cause_s = None
        self._forget()

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
