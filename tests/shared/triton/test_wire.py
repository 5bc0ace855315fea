"""Arrays to messages and back."""

import numpy as np
import pytest

from services.shared.errors import InvalidInputError, StepAudioError
from services.shared.triton import ModelSpec, RequestContext
from services.shared.triton.specs import SPEECH_TOKENIZER, STEP1_CHAT, TOKEN_TO_WAVE

pytest.importorskip("tritonclient", reason="the messages of Triton are in the extra `serving`")

from tritonclient.grpc import service_pb2 as pb

from services.shared.triton.wire import SequencePlace, read_response, write_request

pytestmark = pytest.mark.unit

NOBODY = RequestContext()


def test_a_request_carries_tensors_context_and_its_place_in_the_sequence() -> None:
    request = write_request(
        SPEECH_TOKENIZER,
        {"pcm": np.array([0.5, -0.5]), "peek": [True]},
        context=RequestContext("s1", 3, 7),
        sequence=SequencePlace("u1", start=True),
    )
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in request.inputs] == [
        ("pcm", "FP32", [1, 2]),
        ("peek", "BOOL", [1, 1]),
    ]
    assert request.raw_input_contents[0] == np.array([0.5, -0.5], np.float32).tobytes()
    said = request.parameters
    assert (said["session"].string_param, said["turn"].int64_param, said["epoch"].int64_param) == ("s1", 3, 7)
    assert (said["sequence_id"].string_param, said["sequence_start"].bool_param) == ("u1", True)


@pytest.mark.parametrize("tensors", [{}, {"input_ids": [1]}, {"input_ids": [1], "max_new_tokens": [1], "beams": [2]}])
def test_a_missing_or_unknown_tensor_is_refused_before_anything_is_sent(tensors: dict[str, list[int]]) -> None:
    with pytest.raises(InvalidInputError, match=r"also needs|takes no tensor beams"):
        write_request(STEP1_CHAT, tensors, context=NOBODY)


def test_a_response_comes_back_as_arrays_and_texts() -> None:
    outputs = read_response(STEP1_CHAT, _response(ids=b"\x05\0\0\0\x06\0\0\0", shape=[2]))
    assert outputs["output_ids"].tolist() == [5, 6]
    assert outputs["finish_reason"].tolist() == ["stop"]


def test_a_response_with_a_shape_but_no_bytes_is_an_error() -> None:
    """What a server with NumPy 2 in its Python process answers, status OK."""
    with pytest.raises(StepAudioError, match=r"0 values for the shape \[2\]"):
        read_response(STEP1_CHAT, _response(ids=b"", shape=[2]))


def test_a_response_of_another_version_of_the_model_is_an_error() -> None:
    wrong_type = _response(ids=b"\x05\0\0\0", shape=[1])
    wrong_type.outputs[0].datatype = "FP32"
    missing = pb.ModelInferResponse()
    for spec, response, said in ((STEP1_CHAT, wrong_type, "as FP32"), (STEP1_CHAT, missing, "gave only nothing")):
        _refused(spec, response, said)


def _refused(spec: ModelSpec, response: pb.ModelInferResponse, said: str) -> None:
    with pytest.raises(StepAudioError, match=said):
        read_response(spec, response)


def _response(*, ids: bytes, shape: list[int]) -> pb.ModelInferResponse:
    response = pb.ModelInferResponse()
    response.outputs.add(name="output_ids", datatype="INT32", shape=shape)
    response.outputs.add(name="finish_reason", datatype="BYTES", shape=[1])
    response.raw_output_contents.extend([ids, b"\x04\0\0\0stop"])
    return response


def test_only_a_model_whose_batches_triton_forms_is_told_a_level_of_its_queue() -> None:
    wave = {name: np.zeros(1) for name in ("voice_tokens", "seed", "speech_tokens")}
    wave |= {"last": np.ones(1, bool), "voice_mel": np.zeros((0, 80)), "voice_embedding": np.zeros(192)}
    wave = {name: np.asarray(value, TOKEN_TO_WAVE.input(name).dtype.numpy) for name, value in wave.items()}
    context = RequestContext(slack_ms=250)
    assert write_request(TOKEN_TO_WAVE, wave, context=context).parameters["priority"].uint64_param == 3
    chat = write_request(STEP1_CHAT, {"input_ids": [1], "max_new_tokens": [1]}, context=context)
    assert "priority" not in chat.parameters
    assert chat.parameters["slack_ms"].int64_param == 250
