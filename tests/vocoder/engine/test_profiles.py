"""The ranges of the graphs' axes hold what real streams ask for."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from services.vocoder.config import parse_text
from services.vocoder.engine.profiles import StreamLimits, stream_ranges
from services.vocoder.flow import Flow, finish_flow
from services.vocoder.flow.model import EULER_STEPS
from services.vocoder.hift import HiFT, finish_hift
from services.vocoder.streaming import Push, Streamer, StreamSettings, initial_state
from services.vocoder.voice import VoiceFeatures
from tests.vocoder.engine.toy import TOY_YAML

Seen = dict[str, list[int]]


class RecordingFlow(Flow):
    """Notes lengths, and makes zeros."""

    seen: Seen

    def encode(self, ids: Tensor) -> Tensor:
        self.seen["N"].append(ids.shape[1])
        return torch.zeros(1, ids.shape[1], 80)

    def integrate(
        self, noise: Tensor, mu: Tensor, speaker: Tensor, known: Tensor, *, count: int = EULER_STEPS
    ) -> Tensor:
        self.seen["B"].append(noise.shape[0])
        self.seen["T"].append(noise.shape[2])
        return torch.zeros_like(noise)


class RecordingHiFT(HiFT):
    """Notes lengths, and makes silence."""

    seen: Seen

    def predict_f0(self, mel: Tensor) -> Tensor:
        self.seen["M"].append(mel.shape[2])
        return torch.zeros(1, mel.shape[2])

    def render(self, mel: Tensor, source: Tensor) -> Tensor:
        self.seen["M"].append(mel.shape[2])
        return source[0]


@pytest.fixture(scope="module")
def networks() -> tuple[RecordingFlow, RecordingHiFT]:
    config = parse_text(TOY_YAML, __file__)  # type: ignore[arg-type]  # only named in messages
    flow, hift = RecordingFlow(config.flow), RecordingHiFT(config.hift)
    finish_flow(flow), finish_hift(hift)
    return flow, hift


@pytest.mark.unit
@pytest.mark.parametrize("push_tokens", [1, 5, 125])
@pytest.mark.parametrize("voice_s", [0.0, 30.0])
def test_every_pass_of_a_stream_is_within_the_ranges(
    networks: tuple[RecordingFlow, RecordingHiFT], push_tokens: int, voice_s: float
) -> None:
    flow, hift = networks
    flow.seen = hift.seen = defaultdict(list)
    ranges = stream_ranges(flow, hift, StreamSettings(), StreamLimits())
    frames = int(voice_s * 86)
    voice = VoiceFeatures(
        np.zeros(int(voice_s * 41.6667), np.int64), np.zeros((frames, 80), np.float32), np.ones(192, np.float32)
    )
    tokens, place = np.zeros(1500 if push_tokens > 1 else 300, np.int64), 0
    streamer, state = Streamer(flow, hift, StreamSettings()), initial_state(0)
    while place < len(tokens):
        final = place + push_tokens >= len(tokens)
        (result,) = streamer.chunks([Push(tokens[place : place + push_tokens], voice, state, final)])
        assert not isinstance(result, Exception)
        state, place = result[1], place + push_tokens
    assert len(flow.seen["T"]) > 4
    for axis, lengths in flow.seen.items():
        assert ranges[axis].least <= min(lengths), axis
        assert max(lengths) <= ranges[axis].most, axis


@pytest.mark.unit
def test_the_usual_window_is_the_longest_hop_behind_the_usual_voice(
    networks: tuple[RecordingFlow, RecordingHiFT],
) -> None:
    flow, hift = networks
    settings = StreamSettings()
    usual = stream_ranges(flow, hift, settings)["T"].usual
    longer = stream_ranges(flow, hift, replace(settings, max_hop_frames=settings.max_hop_frames + 10))["T"].usual
    assert longer == usual + 10
    none = stream_ranges(flow, hift, settings, StreamLimits(usual_voice_s=0.0))["T"].usual
    assert none == settings.lookback_frames + settings.max_hop_frames + settings.lookahead_frames
