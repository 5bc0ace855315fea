"""Runs of speech in frames of probability."""

import pytest

from services.orchestrator.conversation.events import VoiceFrame
from services.orchestrator.conversation.options import VoiceActivityOptions
from services.orchestrator.conversation.voice_activity import Ears, hear

pytestmark = pytest.mark.unit
OPTIONS = VoiceActivityOptions(threshold=0.5, min_speech_ms=96)


def listen(*probabilities: float, speaking: bool = False, options: VoiceActivityOptions = OPTIONS) -> Ears:
    ears = Ears()
    for index, probability in enumerate(probabilities, 1):
        ears = hear(ears, VoiceFrame(10 + index * 0.032, index * 512, probability), options, speaking=speaking)
    return ears


def test_speech_shorter_than_min_speech_is_none() -> None:
    assert listen(0.1, 0.9, 0.9).speech_end == 0
    assert listen(0.1, 0.9, 0.9, 0.9).speech_end == 4 * 512


def test_a_run_begins_with_its_first_frame_above_the_threshold() -> None:
    assert listen(0.1, 0.4, 0.9, 0.9).run_first == 2 * 512


def test_a_soft_frame_goes_on_with_a_run_but_begins_none() -> None:
    assert listen(0.9, 0.4, 0.4).speech_end == 3 * 512
    assert listen(0.4, 0.4, 0.4).run_first is None


def test_a_silent_frame_breaks_the_run() -> None:
    assert listen(0.9, 0.9, 0.2, 0.9, 0.9).speech_end == 0


def test_a_low_threshold_still_hears_silence() -> None:
    assert listen(0.9, 0.04, options=VoiceActivityOptions(threshold=0.1)).run_first is None


def test_while_the_user_speaks_one_frame_prolongs_the_speech() -> None:
    assert listen(0.1, 0.9, speaking=True).speech_end == 2 * 512


def test_a_sample_is_dated_by_the_newest_frame_corrected_by_samples() -> None:
    assert listen(0.1, 0.1).moment_s(512) == pytest.approx(10.032)
