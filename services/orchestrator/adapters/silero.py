"""Voice activity by Silero VAD (MIT), for all open streams in one pass of the network.

    stream a   |f0|    |f1|--          one thread takes the next frame of every stream that has one,
    stream b      |f0|--               runs them as one batch, and rests until others can have come
    stream c   |f0|    |f1|--
    passes     ▲ . . .▲ . . .▲

The thread is the only one that touches the network and what it remembers of streams; callers wait on the event loop. A
stream's frames are judged in their order, also those of a caller that stopped waiting, for the network remembers all of
them; and a stream with many frames holds up no other one. It decides nothing about speech: what the numbers mean is the
conversation's business.

Passes begin `GATHER_S` apart, so that callers whose frames come at different moments share them: a frame that comes
later than that is judged at once, and with many callers it waits for half of that time on average. Who has more frames
waiting is not made to wait. The thread rests after a pass that was shared, for others are sure to come; after one of a
single frame it waits for the next frame, and rests then if that came early: a thread that wakes up for nothing costs a
few callers as much as the network.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from services.orchestrator.adapters.silero_network import Memory, SileroNetwork
from services.orchestrator.ports.hearing import FRAME_SAMPLES
from services.shared.audio.pcm import Samples
from services.shared.errors import AudioError, CancelledRequestError, OverloadedError, StepAudioError

GATHER_S: Final = 0.01
_FRAME_MS: Final = FRAME_SAMPLES * 1000 // 16_000
_CLOSING_S: Final = 5.0


class Network(Protocol):
    """See `SileroNetwork`."""

    def judge(self, memories: Sequence[Memory], frames: Sequence[Samples]) -> list[float]:
        """How likely each frame is speech."""


@dataclass(slots=True, eq=False)
class _Job:
    """Frames of one call: [T, 512], how many of them are judged, and who waits for the answer."""

    frames: Samples
    answer: "asyncio.Future[tuple[float, ...]]"
    loop: asyncio.AbstractEventLoop
    probabilities: list[float] = field(default_factory=list)
    error: StepAudioError | None = None

    def settle(self) -> None:
        """Answer, on the caller's loop."""
        if self.answer.done():
            return
        if self.error is None:
            self.answer.set_result(tuple(self.probabilities))
        else:
            self.answer.set_exception(self.error)


class SileroActivity:
    """One stream of audio; made by `SileroDetector.open`."""

    def __init__(self, detector: "SileroDetector") -> None:
        self._detector = detector
        self.jobs: deque[_Job] = deque()
        self.memory = Memory()
        self.closed = False

    def judge(self, samples: Samples) -> "asyncio.Future[tuple[float, ...]]":
        """How likely each frame is speech, 0 to 1.

        Raises:
            AudioError: no whole frames of 512 samples.
            OverloadedError: too much audio waits already; these frames are not judged.
            CancelledRequestError: the stream is closed, perhaps while this call waited.
        """
        if len(samples) % FRAME_SAMPLES:
            raise AudioError(f"voice activity takes whole frames of {FRAME_SAMPLES} samples, not {len(samples)}")
        loop = asyncio.get_running_loop()
        frames = np.array(samples, np.float32).reshape(-1, FRAME_SAMPLES)  # a copy: the thread reads it later
        job = _Job(frames, loop.create_future(), loop)
        self._detector.submit(self, job)
        return job.answer

    def close(self) -> None:
        """The stream has ended; what waits for it is not judged any more."""
        self._detector.remove(self)


class SileroDetector:
    """Judges any number of streams, on one thread of its own.

    Args:
        network: judges; by default Silero's.
        max_backlog_ms: audio of all streams together that may wait.
        max_batch: most frames in one pass.
        rest: waits so many seconds between passes.

    Raises:
        MissingFileError, CorruptFileError: the model's file is absent, or is none.
    """

    def __init__(
        self,
        network: Network | None = None,
        *,
        max_backlog_ms: int = 120_000,
        max_batch: int = 64,
        rest: Callable[[float], None] = time.sleep,
    ) -> None:
        self._network = SileroNetwork() if network is None else network
        self._max_backlog_frames = max_backlog_ms // _FRAME_MS
        self._max_batch = max_batch
        self._rest = rest
        self._changed = threading.Condition()
        # All below is guarded by `_changed`; a stream's memory belongs to the thread alone.
        self._ready: dict[SileroActivity, None] = {}  # streams with frames that wait, in turn
        self._backlog_frames = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="voice-activity", daemon=True)
        self._thread.start()

    def open(self) -> SileroActivity:
        """Begin a stream."""
        return SileroActivity(self)

    def close(self) -> None:
        """Stop the thread; calls that wait fail with CancelledRequestError."""
        with self._changed:
            self._stopping = True
            waiting = list(self._ready)
            self._changed.notify()
        for stream in waiting:
            self.remove(stream)
        self._thread.join(_CLOSING_S)

    def submit(self, stream: SileroActivity, job: _Job) -> None:
        """Put a call's frames behind those of the stream's earlier calls. Raises as `VoiceActivity.judge`."""
        with self._changed:
            if stream.closed or self._stopping:
                raise CancelledRequestError("the stream of audio is closed")
            if not len(job.frames) and not stream.jobs:
                job.settle()
                return
            if self._backlog_frames + len(job.frames) > self._max_backlog_frames:
                raise OverloadedError(
                    "more audio waits for voice activity than can be judged in time",
                    limit=f"{self._max_backlog_frames * _FRAME_MS} ms",
                )
            self._backlog_frames += len(job.frames)
            stream.jobs.append(job)
            self._ready[stream] = None
            self._changed.notify()

    def remove(self, stream: SileroActivity) -> None:
        """Let go of a stream and of what waits for it."""
        with self._changed:
            stream.closed = True
            dropped = list(stream.jobs)
            stream.jobs.clear()
            self._ready.pop(stream, None)
            self._backlog_frames -= sum(len(job.frames) - len(job.probabilities) for job in dropped)
        for job in dropped:
            job.error = job.error or CancelledRequestError("the stream of audio was closed")
        _answer(dropped)

    def _work(self) -> None:
        due_s = time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ready or self._stopping)
            self._rest_until(due_s)
            with self._changed:
                if self._stopping:
                    return
                batch = list(self._ready)[: self._max_batch]
                frames = [stream.jobs[0].frames[len(stream.jobs[0].probabilities)] for stream in batch]
            if not batch:
                continue  # closed meanwhile
            due_s = time.monotonic() + GATHER_S
            try:
                probabilities = self._network.judge([stream.memory for stream in batch], frames)
            except Exception as error:  # noqa: BLE001 - whatever the runtime raises, callers are told and others go on
                self._fail(batch, error)
                continue
            if self._settle(batch, probabilities):
                due_s = 0.0
            elif len(batch) > 1:
                self._rest_until(due_s)

    def _rest_until(self, due_s: float) -> None:
        if (left_s := due_s - time.monotonic()) > 0 and not self._stopping:
            self._rest(left_s)

    def _settle(self, batch: list[SileroActivity], probabilities: list[float]) -> bool:
        """Note what a pass found, answer the calls it completed, and put the streams with more frames at the end.

        Returns:
            Whether frames wait that have waited for this pass already.
        """
        done: list[_Job] = []
        with self._changed:
            is_behind = len(self._ready) > len(batch) == self._max_batch
            for stream, probability in zip(batch, probabilities, strict=True):
                if not stream.jobs:
                    continue  # closed meanwhile
                self._backlog_frames -= 1
                stream.jobs[0].probabilities.append(probability)
                while stream.jobs and len(stream.jobs[0].probabilities) == len(stream.jobs[0].frames):
                    done.append(stream.jobs.popleft())
                del self._ready[stream]
                if stream.jobs:
                    self._ready[stream] = None
                    is_behind = True
        _answer(done)
        return is_behind

    def _fail(self, batch: list[SileroActivity], cause: Exception) -> None:
        """Answer the calls of a pass that failed; their streams are closed, for their states are not known any more."""
        for stream in batch:
            error = StepAudioError(f"the voice activity model failed: {cause}")
            error.__cause__ = cause
            with self._changed:
                if stream.jobs:
                    stream.jobs[0].error = error
            self.remove(stream)


def _answer(jobs: Iterable[_Job]) -> None:
    """Answer calls, with one call of each of their loops; one that is closed has nobody left to be told."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, of_loop in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle_all, of_loop)
        except RuntimeError:
            continue


def _settle_all(jobs: Iterable[_Job]) -> None:
    for job in jobs:
        job.settle()
