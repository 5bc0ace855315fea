"""Voice activity without a network: by a script, or by how loud the samples are.

Both keep to the rules of the port as the real detector does: whole frames only, nothing after `close`.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from services.orchestrator.ports.hearing import FRAME_SAMPLES
from services.orchestrator.ports.rooms import Samples
from services.shared.errors import AudioError, CancelledRequestError

SPEECH: Final = 0.98
SILENCE: Final = 0.02


class FakeTurnModel:
    """Judges turns by a script, and when it is at its end as complete.

    Attributes:
        answers: the next judgements; an error is raised, None never comes.
        heard: samples of every call.
    """

    def __init__(self, answers: Iterable[float | Exception | None] = (), *, delay_s: float = 0.0) -> None:
        self.answers = deque(answers)
        self.heard: list[int] = []
        self._delay_s = delay_s

    async def judge(self, samples: Samples) -> float:
        """See the port."""
        self.heard.append(len(samples))
        await asyncio.sleep(self._delay_s)
        answer = self.answers.popleft() if self.answers else 1.0
        if answer is None:
            await asyncio.Event().wait()
            raise AssertionError
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeActivity:
    """One stream of a fake.

    Args:
        script: probabilities of the first frames.
        loud_rms: from this level on a frame after the script is speech; None judges all of them as silence.
        delay_s: how long each call takes on the loop's clock.

    Attributes:
        frames: how many were judged.
        closed: whether the stream has ended.
    """

    def __init__(self, script: Iterable[float] = (), *, loud_rms: float | None = None, delay_s: float = 0.0) -> None:
        self._script = deque(script)
        self._loud_rms = loud_rms
        self._delay_s = delay_s
        self.frames = 0
        self.closed = False

    def judge(self, samples: Samples) -> "asyncio.Future[tuple[float, ...]]":
        """Judge whole frames."""
        if self.closed:
            raise CancelledRequestError("the stream of audio is closed")
        if len(samples) % FRAME_SAMPLES:
            raise AudioError(f"voice activity takes whole frames of {FRAME_SAMPLES} samples, not {len(samples)}")
        if self._delay_s:
            return asyncio.ensure_future(self._judged_later(samples))
        answer: asyncio.Future[tuple[float, ...]] = asyncio.get_running_loop().create_future()
        answer.set_result(self._judged(samples))
        return answer

    async def _judged_later(self, samples: Samples) -> tuple[float, ...]:
        await asyncio.sleep(self._delay_s)
        return self._judged(samples)

    def _judged(self, samples: Samples) -> tuple[float, ...]:
        frames = np.asarray(samples, np.float32).reshape(-1, FRAME_SAMPLES)
        self.frames += len(frames)
        return tuple(self._script.popleft() if self._script else self._by_level(frame) for frame in frames)

    def close(self) -> None:
        """The stream has ended."""
        self.closed = True

    def _by_level(self, frame: Samples) -> float:
        if self._loud_rms is None:
            return SILENCE
        return SPEECH if float(np.sqrt(np.mean(frame**2))) >= self._loud_rms else SILENCE


class ScriptedDetector:
    """Gives the streams, in the order they are opened, the probabilities of their scripts, then silence.

    Args:
        scripts: one list of probabilities for each stream; streams beyond them hear silence.
        delay_s: how long each call of `judge` takes on the loop's clock.

    Attributes:
        streams: all that were opened.
    """

    def __init__(self, *scripts: Sequence[float], delay_s: float = 0.0) -> None:
        self._scripts = deque(scripts)
        self._delay_s = delay_s
        self.streams: list[FakeActivity] = []

    def open(self) -> FakeActivity:
        """Begin a stream."""
        script = self._scripts.popleft() if self._scripts else ()
        self.streams.append(FakeActivity(script, delay_s=self._delay_s))
        return self.streams[-1]


class LoudnessDetector:
    """Takes loud frames for speech.

    Args:
        loud_rms: level from which on a frame is speech.
        delay_s: how long each call of `judge` takes on the loop's clock.

    Attributes:
        streams: all that were opened.
    """

    def __init__(self, loud_rms: float = 0.02, *, delay_s: float = 0.0) -> None:
        self._loud_rms = loud_rms
        self._delay_s = delay_s
        self.streams: list[FakeActivity] = []

    def open(self) -> FakeActivity:
        """Begin a stream."""
        self.streams.append(FakeActivity(loud_rms=self._loud_rms, delay_s=self._delay_s))
        return self.streams[-1]
