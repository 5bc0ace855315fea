"""Which lengths the vocoder's graphs meet, from the schedule of a stream; data for engines that are compiled ahead.

    window of the flow    |-- prompt --|-- lookback --|--- frames that became ready ---|- lookahead -|
    frames of HiFT                |-- held, twice --|--- frames that became ready ---|

A pass waits for its hop, and then takes all that is ready: less than a hop that waited, plus what one push brought;
after a first pass, which is limited, also what the first push brought beyond it.

Whole utterances in one run (`Vocoder.wave`) are not of these lengths: they stay with engines that take any.
"""

import math
from dataclasses import dataclass
from typing import Final

from services.shared.graphs.spec import AxisRange
from services.vocoder.config import HOP_SAMPLES, SAMPLE_RATE_HZ
from services.vocoder.flow.model import Flow
from services.vocoder.hift.model import HiFT
from services.vocoder.hift.stream import held_frames
from services.vocoder.streaming import StreamSettings

_USUAL_UTTERANCE_S: Final = 6.0


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What callers send.

    Attributes:
        usual_voice_s, most_voice_s: length of a voice's clip; a voice may also have none.
        most_push_tokens: pushed at once.
        usual_streams, most_streams: that share a pass.
    """

    usual_voice_s: float = 3.0
    most_voice_s: float = 30.0
    most_push_tokens: int = 125
    usual_streams: int = 1
    most_streams: int = 8


def stream_ranges(
    flow: Flow, hift: HiFT, settings: StreamSettings | None = None, limits: StreamLimits | None = None
) -> dict[str, AxisRange]:
    """The range of every free axis of the vocoder's graphs.

    Returns:
        B streams, 2B rows of guidance, N tokens of the encoder, T frames of a window, M frames of HiFT.
    """
    settings, limits = settings or StreamSettings(), limits or StreamLimits()
    held, per_frame = held_frames(hift), flow.tokens_per_frame
    pushed = math.ceil(limits.most_push_tokens / per_frame) + 1
    waited = max(settings.max_hop_frames, settings.first_limit_frames) + held
    ready = waited + 2 * pushed
    context = settings.context_tokens + 2 * limits.most_push_tokens
    unread = math.ceil((settings.lookback_frames + waited + settings.lookahead_frames) * per_frame)
    usual_prompt, most_prompt = (_frames(seconds) for seconds in (limits.usual_voice_s, limits.most_voice_s))
    around = settings.lookback_frames + settings.lookahead_frames
    rate = flow.config.token_rate_hz
    return {
        "B": AxisRange(1, limits.usual_streams, limits.most_streams),
        "2B": AxisRange(2, 2 * limits.usual_streams, 2 * limits.most_streams),
        "N": AxisRange(
            1,
            math.ceil((limits.usual_voice_s + _USUAL_UTTERANCE_S) * rate),
            math.ceil(limits.most_voice_s * rate) + context + unread,
        ),
        "T": AxisRange(1, usual_prompt + around + settings.max_hop_frames, most_prompt + around + ready),
        "M": AxisRange(1, 2 * held + settings.max_hop_frames, 2 * held + ready + settings.lookahead_frames),
    }


def _frames(seconds: float) -> int:
    return math.ceil(seconds * SAMPLE_RATE_HZ / HOP_SAMPLES)
