"""Kokoro-82M as a source of speech whose phone times are exact.

Decides: how the published ONNX graph is opened up (phone durations as an output; height and range of the voice as
inputs), and how a text becomes Kokoro's symbols. The network is deterministic: two renditions differ by their style
row, speed and pitch only. Refuses to know: which texts and voices are wanted, and where the files come from.
Source: the graph kokoro-v1.0.int8.onnx; its inner tensor /encoder/Clip_output_0 holds durations in frames of 600
samples.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.nano.alignment import TimedSpeech, settle
from services.nano.espeak import Espeak
from services.nano.phones import SILENCE, split_clauses, symbols_of
from services.shared.errors import CorruptFileError, NothingToSpeakError, VoiceNotFoundError
from services.shared.nn.onnx import open_session

SAMPLE_RATE_HZ: Final = 24_000
FRAME_SAMPLES: Final = 600
# The sound comes two frames before its durations say: measured with a linear phone classifier, whose accuracy peaks
# 50 ms earlier than on espeak-ng's speech, in the middle of utterances.
LAG_SAMPLES: Final = 2 * FRAME_SAMPLES
STYLE_ROWS: Final = 510
MAX_SIGNS: Final = STYLE_ROWS - 2
MODEL_FILE: Final = "kokoro.onnx"
VOICES_FOLDER: Final = "voices"

_DURATIONS: Final = "/encoder/Clip_output_0"
_PITCH: Final = "/encoder/Squeeze_output_0"
_VOICED_ABOVE_HZ: Final = 40.0
AMERICAN, _BRITISH = "gmw/en-US", "gmw/en-GB-x-rp"
_PAD_ID: Final = 0

# The signs of English in the network's embedding table; others are left out of the input.
_IDS: Final[dict[str, int]] = {
    **{";": 1, ":": 2, ",": 3, ".": 4, "!": 5, "?": 6, " ": 16, "a": 43, "b": 44, "d": 46, "e": 47, "f": 48, "h": 50},
    **{"i": 51, "j": 52, "k": 53, "l": 54, "m": 55, "n": 56, "o": 57, "p": 58, "s": 61, "t": 62, "u": 63, "v": 64},
    **{"w": 65, "z": 68, "ɑ": 69, "ɐ": 70, "ɒ": 71, "æ": 72, "ɔ": 76, "ð": 81, "ə": 83, "ɚ": 85, "ɛ": 86, "ɜ": 87},
    **{"ɡ": 92, "ɪ": 102, "ŋ": 112, "θ": 119, "ɹ": 123, "ɾ": 125, "ʃ": 131, "ʊ": 135, "ʌ": 138, "ʒ": 147, "ʔ": 148},
    **{"ˈ": 156, "ˌ": 157, "ː": 158, "ᵻ": 177},
}
_RESPELLED: Final = {"r": "ɹ", "x": "k", "ɬ": "l"}


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a sentence is said.

    Attributes:
        voices: pairs of (voice, weight); the weights sum to 1. The first voice decides the accent.
        speed: 1 is the voice's own; larger is faster.
        pitch_gain: factor on the pitch.
        pitch_range: factor on the pitch's distance from its mean: above 1 is livelier.
        style_shift: how many rows beside the usual one the style is read from (another prosody).
    """

    voices: tuple[tuple[str, float], ...]
    speed: float = 1.0
    pitch_gain: float = 1.0
    pitch_range: float = 1.0
    style_shift: int = 0


def open_up(model: Any) -> Any:
    """Give the published graph the outputs and inputs that this recipe needs (changes and returns the onnx.ModelProto).

    New output: durations. New inputs pitch_gain and pitch_range, each [1]: voiced pitch f becomes
    gain * (mean + range * (f - mean)), its mean taken over the voiced frames.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    users = [(node, slot) for node in graph.node for slot, name in enumerate(node.input) if name == _PITCH]
    place = max(i for i, node in enumerate(graph.node) if _PITCH in node.output) + 1
    for name, value in (("nano/threshold", [_VOICED_ABOVE_HZ]), ("nano/one", [1.0])):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    steps = (
        ("Greater", [_PITCH, "nano/threshold"], "nano/voiced"),
        ("Cast", ["nano/voiced"], "nano/mask"),
        ("Mul", [_PITCH, "nano/mask"], "nano/voiced_pitch"),
        ("ReduceSum", ["nano/voiced_pitch"], "nano/sum"),
        ("ReduceSum", ["nano/mask"], "nano/count"),
        ("Max", ["nano/count", "nano/one"], "nano/safe_count"),
        ("Div", ["nano/sum", "nano/safe_count"], "nano/mean"),
        ("Sub", [_PITCH, "nano/mean"], "nano/distance"),
        ("Mul", ["nano/distance", "pitch_range"], "nano/ranged"),
        ("Add", ["nano/ranged", "nano/mean"], "nano/moved"),
        ("Mul", ["nano/moved", "pitch_gain"], "nano/gained"),
        ("Where", ["nano/voiced", "nano/gained", _PITCH], "nano/pitch"),
    )
    for offset, (kind, inputs, output) in enumerate(steps):
        node = helper.make_node(kind, inputs, [output], name=output)
        if kind == "Cast":
            node.attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
        graph.node.insert(place + offset, node)
    for node, slot in users:
        node.input[slot] = "nano/pitch"
    for name in ("pitch_gain", "pitch_range"):
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]))
    graph.output.append(helper.make_tensor_value_info(_DURATIONS, TensorProto.FLOAT, None))
    return model


class Kokoro:
    """The opened-up network and its voices.

    Args:
        folder: what the stage `packages` has written: kokoro.onnx and voices/*.bin.
        phonemizer: text to IPA.
        threads: of ONNX Runtime.
    """

    def __init__(self, folder: str | Path, phonemizer: Espeak, *, threads: int = 1) -> None:
        self._folder = Path(folder)
        self._espeak = phonemizer
        self._session = open_session(self._folder / MODEL_FILE, threads=threads)
        self._styles: dict[str, NDArray[np.float32]] = {}

    def symbols(self, text: str, *, british: bool) -> list[str]:
        """Kokoro's symbols of a text, punctuation kept; a diphthong is one symbol of two signs.

        Raises:
            NothingToSpeakError: no word in the text, or more signs than the network takes.
        """
        symbols: list[str] = []
        for words, mark in split_clauses(text):
            ipa = self._espeak.ipa(words, _BRITISH if british else AMERICAN) if words else ""
            symbols += [" "] if ipa and symbols else []
            symbols += [_known(symbol) for symbol in symbols_of(ipa) if _known(symbol)]
            symbols += [mark] if mark else []
        signs = sum(map(len, symbols))
        if not 0 < signs <= MAX_SIGNS:
            raise NothingToSpeakError(f"{text!r} has {signs} signs; Kokoro takes 1..{MAX_SIGNS}")
        return symbols

    def speak(self, text: str, delivery: Delivery) -> TimedSpeech:
        """Say a text.

        Returns:
            speech at 24 kHz, with silence before the first and after the last symbol of the text.

        Raises:
            NothingToSpeakError, VoiceNotFoundError, CorruptFileError.
        """
        symbols = self.symbols(text, british=delivery.voices[0][0].startswith("b"))
        signs = "".join(symbols)
        row = min(max(len(signs) + delivery.style_shift, 1), STYLE_ROWS - 1)
        style = sum(weight * self._style(name)[row] for name, weight in delivery.voices)
        inputs = {
            "tokens": np.array([[_PAD_ID, *(_IDS[sign] for sign in signs), _PAD_ID]], np.int64),
            "style": np.asarray(style, np.float32)[None],
            "speed": np.array([delivery.speed], np.float32),
            "pitch_gain": np.array([delivery.pitch_gain], np.float32),
            "pitch_range": np.array([delivery.pitch_range], np.float32),
        }
        audio, durations = self._session.run(["audio", _DURATIONS], inputs)
        samples = np.asarray(audio, np.float32).reshape(-1)
        sign_ends = np.cumsum(durations.reshape(-1).astype(np.int64)) * FRAME_SAMPLES
        if sign_ends.size != len(signs) + 2 or sign_ends[-1] != samples.size:
            raise CorruptFileError(f"{MODEL_FILE}: durations do not cover the audio of {text!r}; run `packages` again")
        symbol_ends = sign_ends[np.cumsum([1, *map(len, symbols), 1]) - 1]
        speech = TimedSpeech(samples, SAMPLE_RATE_HZ, (SILENCE, *symbols, SILENCE), tuple(map(int, symbol_ends)))
        return settle(speech, lag_samples=LAG_SAMPLES)

    def _style(self, name: str) -> NDArray[np.float32]:
        if name not in self._styles:
            path = self._folder / VOICES_FOLDER / f"{name}.bin"
            if not path.exists():
                raise VoiceNotFoundError(f"{path} does not exist; run the stage `packages`")
            self._styles[name] = np.fromfile(path, "<f4").reshape(STYLE_ROWS, -1)
        return self._styles[name]


def _known(symbol: str) -> str:
    """The symbol in signs of the embedding table, or "" where it has none."""
    return "".join(_RESPELLED.get(sign, sign) for sign in symbol if _RESPELLED.get(sign, sign) in _IDS)
