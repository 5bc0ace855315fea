"""Semantic codes: the recorded ones of the stand-in network, and networks that are something else."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from services.shared.audio.files import read_audio
from services.shared.audio.pcm import normalize_energy
from services.shared.audio.resample import resample
from services.shared.errors import CheckpointError, ShapeMismatchError
from services.shared.paths import SEMANTIC_ONNX_FILE
from services.tokenizer import SemanticEncoder, SpeechTokenizer, load_semantic_encoder
from tests.conftest import golden_file


@pytest.fixture(scope="module")
def encoder(golden_tokenizer: SpeechTokenizer) -> SemanticEncoder:
    return golden_tokenizer.semantic


@pytest.mark.golden
@pytest.mark.parametrize(
    "clip", ["sweep_0p30", "burst_1p00", "voice_3p37", "voice_35p00", "stereo_48k", "sil_voice_24k", "silence_16k"]
)
def test_codes_equal_the_recorded_ones(encoder: SemanticEncoder, clip: str) -> None:
    audio = read_audio(golden_file(f"wavs/{clip}.wav"))
    samples = normalize_energy(resample(audio.samples, audio.sample_rate_hz, 16_000))
    recorded = np.load(golden_file(f"preproc/{clip}.npz"))["vq06_stub_codes"]
    assert encoder.encode(samples).tolist() == recorded.tolist()


@pytest.mark.golden
def test_the_number_of_codes_equals_the_recorded_one_at_every_length(encoder: SemanticEncoder) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 500_000).astype(np.float32)
    for samples, count in json.loads(golden_file("preproc/interleave.json").read_text())[
        "vq06_stub_len_by_samples"
    ].items():
        assert len(encoder.encode(noise[: int(samples)])) == count, f"{samples} samples"


@pytest.mark.unit
def test_pieces_of_30_s_know_nothing_of_each_other(encoder: SemanticEncoder) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 520_000).astype(np.float32)
    codes = encoder.encode(noise)
    assert codes[:750].tolist() == encoder.encode(noise[:480_000]).tolist()
    assert codes[750:].tolist() == encoder.encode(noise[480_000:]).tolist()


@pytest.mark.unit
def test_no_samples_have_no_codes(encoder: SemanticEncoder) -> None:
    codes = encoder.encode(np.zeros(0, np.float32))
    assert codes.shape == (0,)
    assert codes.dtype == np.int64


Input = tuple[str, int, Sequence[str | int]]


def save_network(folder: Path, *, inputs: list[Input], codes: list[int], kind: int) -> None:
    """An ONNX file that answers the same codes to everything."""
    value = helper.make_tensor("value", kind, [1, len(codes)], codes)
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["codes"], value=value)],
        "constant",
        [helper.make_tensor_value_info(name, element, shape) for name, element, shape in inputs],
        [helper.make_tensor_value_info("codes", kind, [1, len(codes)])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / SEMANTIC_ONNX_FILE))


FEATURES: Input = ("x", TensorProto.FLOAT, [1, 128, "T"])


@pytest.fixture
def second() -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype(np.float32)


@pytest.mark.unit
@pytest.mark.parametrize("length_type", [TensorProto.INT32, TensorProto.INT64])
def test_inputs_are_taken_by_position_whatever_their_names_and_integer_type(
    tmp_path: Path, second: NDArray[np.float32], length_type: int
) -> None:
    inputs: list[Input] = [FEATURES, ("how_long", length_type, [1])]
    save_network(tmp_path, inputs=inputs, codes=list(range(25)), kind=TensorProto.INT32)
    assert load_semantic_encoder(tmp_path).encode(second).tolist() == list(range(25))


@pytest.mark.unit
@pytest.mark.parametrize(
    ("inputs", "kind"),
    [
        ([FEATURES], TensorProto.INT64),
        ([FEATURES, ("length", TensorProto.FLOAT, [1])], TensorProto.INT64),
        ([FEATURES, ("length", TensorProto.INT32, [1])], TensorProto.FLOAT),
        ([("x", TensorProto.FLOAT, [1, 80, "T"]), ("length", TensorProto.INT32, [1])], TensorProto.INT64),
        ([("x", TensorProto.FLOAT, [1, 128, 3000]), ("length", TensorProto.INT32, [1])], TensorProto.INT64),
        ([("x", TensorProto.FLOAT, ["N"]), ("length", TensorProto.INT32, [1])], TensorProto.INT64),
    ],
    ids=["one input", "float length", "float codes", "80 mels", "fixed length", "samples"],
)
def test_another_network_under_this_name_is_refused(tmp_path: Path, inputs: list[Input], kind: int) -> None:
    save_network(tmp_path, inputs=inputs, codes=[1] * 25, kind=kind)
    with pytest.raises(ShapeMismatchError, match=SEMANTIC_ONNX_FILE):
        load_semantic_encoder(tmp_path)


@pytest.mark.unit
@pytest.mark.parametrize("codes", [[1] * 50, [], [0] * 24 + [4096], [0] * 24 + [-1]], ids=len)
def test_answers_that_are_no_codes_of_this_length_are_refused(
    tmp_path: Path, second: NDArray[np.float32], codes: list[int]
) -> None:
    inputs: list[Input] = [FEATURES, ("length", TensorProto.INT32, [1])]
    save_network(tmp_path, inputs=inputs, codes=codes, kind=TensorProto.INT64)
    encoder = load_semantic_encoder(tmp_path)
    with pytest.raises(CheckpointError, match=SEMANTIC_ONNX_FILE):
        encoder.encode(second)
