"""From the probability of speech in each frame to runs of speech, in samples at 16 kHz; no clock is read.

                 threshold ─ ─ ─ ─ ─ ─ ▂▆█▇▅▆▂ ─ ─ ─ ▂ ─ ─       a frame at or above it begins a run,
                   release ─ ─ ─ ─ ─ ▃ ███████ ▂ ─ ─ █ ─ ─       frames at or above the release prolong it
                       run             ├──────┤      ├┤
                                       ↑      ↑      too short to be speech
                               run_first      speech_end

Hysteresis keeps soft sounds within words from cutting them. A run shorter than `min_speech_ms` is no speech: it neither
opens an utterance nor ends a pause. While the user speaks, any run prolongs the speech.
Source: the distance of 0.15 between the two thresholds is Silero's own.
"""

from typing import Final, NamedTuple

from services.orchestrator.conversation.events import VoiceFrame
from services.orchestrator.conversation.options import VoiceActivityOptions

SAMPLE_RATE_HZ: Final = 16_000
SAMPLES_PER_MS: Final = SAMPLE_RATE_HZ // 1000
_HYSTERESIS: Final = 0.15


class Ears(NamedTuple):
    """What was heard last.

    Attributes:
        end_sample: position after the newest frame.
        at_s: when that frame came.
        run_first: first sample of the run that the newest frame belongs to; None if that frame was silent.
        speech_end: position after the last sample of speech.
    """

    end_sample: int = 0
    at_s: float = 0.0
    run_first: int | None = None
    speech_end: int = 0

    @property
    def silent_samples(self) -> int:
        """Since the last speech."""
        return self.end_sample - self.speech_end

    def moment_s(self, sample: int) -> float:
        """When a sample was spoken: the newest frame's moment, corrected by samples."""
        return self.at_s - (self.end_sample - sample) / SAMPLE_RATE_HZ


def hear(ears: Ears, frame: VoiceFrame, options: VoiceActivityOptions, *, speaking: bool) -> Ears:
    """Take in the next frame.

    Args:
        ears: what was heard before.
        frame: begins where the frame before it ended.
        options: thresholds.
        speaking: the user speaks already, so that no run is too short.
    """
    threshold = options.threshold
    if ears.run_first is not None:
        threshold = max(threshold - _HYSTERESIS, threshold / 2)
    if frame.probability < threshold:
        return Ears(frame.end_sample, frame.at_s, None, ears.speech_end)
    run_first = ears.end_sample if ears.run_first is None else ears.run_first
    is_speech = speaking or frame.end_sample - run_first >= options.min_speech_ms * SAMPLES_PER_MS
    return Ears(frame.end_sample, frame.at_s, run_first, frame.end_sample if is_speech else ears.speech_end)
