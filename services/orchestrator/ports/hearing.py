"""Finding speech in audio, frame by frame, for many sessions at once; and judging whether a turn is complete."""

from collections.abc import Awaitable
from typing import Final, Protocol

from services.orchestrator.ports.rooms import Samples

FRAME_SAMPLES: Final = 512
"""32 ms at 16 kHz."""


class VoiceActivity(Protocol):
    """One stream of audio. Frames of many streams may be judged in one pass, off the event loop."""

    def judge(self, samples: Samples) -> Awaitable[tuple[float, ...]]:
        """How likely each frame is speech, 0 to 1; asked at once, answered to who awaits it.

        Args:
            samples: whole frames of 512 samples at 16 kHz that follow the earlier ones.

        Raises:
            OverloadedError: more audio of all streams waits than can be judged in time.
            CancelledRequestError: the stream is closed.
        """

    def close(self) -> None:
        """The stream has ended."""


class VoiceActivityDetector(Protocol):
    """Judges any number of streams."""

    def open(self) -> VoiceActivity:
        """Begin a stream."""


TURN_SAMPLES: Final = 128_000
"""8 s at 16 kHz: of a turn, what a turn model listens to at most, its newest."""


class TurnModel(Protocol):
    """Judges from how something was said whether the speaker has finished."""

    async def judge(self, samples: Samples) -> float:
        """How likely it is that the turn is complete, 0 to 1; worked out off the event loop.

        Args:
            samples: the turn's newest audio at 16 kHz, at most `TURN_SAMPLES`, up to the pause and with it.
        """
