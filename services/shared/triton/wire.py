"""Arrays to KServe messages and back, straight into the raw contents: no client library between, no copy but one.

Source: the KServe v2 protocol with Triton's extensions. BYTES elements carry their length in front, 4 bytes,
little endian.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from services.shared.errors import InvalidInputError, StepAudioError
from services.shared.triton.context import RequestContext
from services.shared.triton.tensors import Array, DType, ModelKind, ModelSpec


@dataclass(frozen=True, slots=True)
class SequencePlace:
    """Which request of which sequence this is.

    Attributes:
        name: the sequence's id, chosen by the caller, never used twice.
        start: the first of it.
        end: the last of it.
    """

    name: str
    start: bool = False
    end: bool = False


def write_request(
    spec: ModelSpec,
    tensors: Mapping[str, object],
    *,
    context: RequestContext,
    sequence: SequencePlace | None = None,
) -> pb.ModelInferRequest:
    """Build a request.

    Raises:
        InvalidInputError: a tensor is missing, unknown, or of another type or shape.
    """
    request = pb.ModelInferRequest(model_name=spec.name)
    for name, value in tensors.items():
        tensor = spec.input(name)
        array = tensor.fit(value)
        shape = (1, *array.shape) if spec.has_batch_dimension else array.shape
        request.inputs.add(name=name, datatype=tensor.dtype.value, shape=shape)
        request.raw_input_contents.append(_to_bytes(array, tensor.dtype))
    missing = [tensor.name for tensor in spec.inputs if not tensor.optional and tensor.name not in tensors]
    if missing:
        raise InvalidInputError(f"{spec.name} also needs {', '.join(missing)}")
    for key, parameter in context.parameters.items():
        if isinstance(parameter, str):
            request.parameters[key].string_param = parameter
        else:
            request.parameters[key].int64_param = parameter
    if spec.kind is ModelKind.BATCHED:
        request.parameters["priority"].uint64_param = context.priority
    if sequence is not None:
        request.parameters["sequence_id"].string_param = sequence.name
        request.parameters["sequence_start"].bool_param = sequence.start
        request.parameters["sequence_end"].bool_param = sequence.end
    return request


def read_response(spec: ModelSpec, response: pb.ModelInferResponse) -> dict[str, Array]:
    """The outputs of a response by name, without a batch dimension; read-only views of the message.

    Raises:
        StepAudioError: an output is missing, unknown, or not what the spec says: the server runs another version.
    """
    outputs: dict[str, Array] = {}
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        tensor = spec.output(output.name)
        shape = tuple(output.shape)
        if output.datatype != tensor.dtype:
            raise StepAudioError(f"{spec.name} gave {output.name} as {output.datatype}, not {tensor.dtype}")
        array = _from_bytes(raw, tensor.dtype)
        if array.size != np.prod(shape, dtype=int):
            # What a server whose Python runs NumPy 2 answers: a shape, status OK, and no bytes.
            raise StepAudioError(f"{spec.name} gave {output.name} with {array.size} values for the shape {list(shape)}")
        array = array.reshape(shape[1:] if spec.has_batch_dimension else shape)
        tensor.check_shape(array.shape)
        outputs[output.name] = array
    if len(outputs) != len(spec.outputs):
        raise StepAudioError(f"{spec.name} gave only {', '.join(outputs) or 'nothing'}")
    return outputs


def _to_bytes(array: Array, dtype: DType) -> bytes:
    if dtype is not DType.BYTES:
        return array.tobytes()
    return b"".join(struct.pack("<I", len(text)) + text for text in (str(item).encode() for item in array.flat))


def _from_bytes(raw: bytes, dtype: DType) -> Array:
    if dtype is not DType.BYTES:
        return np.frombuffer(raw, dtype=dtype.numpy)
    texts, place = [], 0
    while place < len(raw):
        (length,) = struct.unpack_from("<I", raw, place)
        texts.append(raw[place + 4 : place + 4 + length].decode())
        place += 4 + length
    return np.array(texts, dtype=np.object_)
