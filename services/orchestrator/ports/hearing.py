"""Finding speech in audio, frame by frame, for many sessions at once."""

from typing import Final, Protocol

from services.orchestrator.ports.rooms import Samples

FRAME_SAMPLES: Final = 512
"""32 ms at 16 kHz."""


class VoiceActivity(Protocol):
    """One stream of audio. Frames of many streams may be judged in one pass, off the event loop."""

    async def judge(self, samples: Samples) -> tuple[float, ...]:
        """How likely each frame is speech, 0 to 1.

        Args:
            samples: whole frames of 512 samples at 16 kHz that follow the earlier ones.
        """

    def close(self) -> None:
        """The stream has ended."""


class VoiceActivityDetector(Protocol):
    """Judges any number of streams."""

    def open(self) -> VoiceActivity:
        """Begin a stream."""
