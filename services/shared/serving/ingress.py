"""Triton requests to checked arrays, and arrays and typed errors to Triton responses.

The only place where Triton's tensors and error codes meet the house's; rooms see arrays and raise typed errors.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import triton_python_backend_utils as pb

from services.shared.errors import CancelledRequestError, InvalidInputError, StepAudioError
from services.shared.triton.context import RequestContext, parse_context
from services.shared.triton.faults import write_fault
from services.shared.triton.tensors import Array, ModelSpec, TensorSpec

_LOG: Final = logging.getLogger(__name__)

# Names, not values: Triton fills its module only after the room's was imported. It has fewer codes than gRPC; the class
# in front of the message tells the caller the rest.
_CODES: Final = {
    "INVALID_ARGUMENT": "INVALID_ARG",
    "NOT_FOUND": "NOT_FOUND",
    "CANCELLED": "CANCELLED",
    "RESOURCE_EXHAUSTED": "UNAVAILABLE",
    "UNAVAILABLE": "UNAVAILABLE",
}


@dataclass(frozen=True, slots=True, eq=False)
class RoomRequest:
    """A request as a room reads it.

    Attributes:
        context: whose work it is.
        tensors: those present, without a batch dimension.
    """

    context: RequestContext
    tensors: Mapping[str, Array]

    def flag(self, name: str) -> bool:
        """Whether an optional BOOL [1] was given and is true."""
        return name in self.tensors and bool(self.tensors[name][0])

    def number(self, name: str) -> Any | None:
        """The value of an optional [1], or None: int or float as the spec says."""
        return self.tensors[name][0].item() if name in self.tensors else None


def read_request(spec: ModelSpec, request: Any) -> RoomRequest:  # Triton publishes no types
    """Check a request and take out its tensors.

    Raises:
        InvalidInputError: a tensor is missing or of another shape, or the context is malformed.
        CancelledRequestError: the caller has gone.
    """
    context = parse_context(request.parameters())
    if request.is_cancelled():
        raise CancelledRequestError("the caller has gone")
    tensors: dict[str, Array] = {}
    for tensor in spec.inputs:
        given = pb.get_input_tensor_by_name(request, tensor.name)
        if given is not None:
            tensors[tensor.name] = _unbatched(spec, tensor, given.as_numpy())
        elif not tensor.optional:
            raise InvalidInputError(f"the tensor {tensor.name} is missing")
    return RoomRequest(context, tensors)


def _unbatched(spec: ModelSpec, tensor: TensorSpec, array: Array) -> Array:
    if spec.has_batch_dimension:
        if array.shape[0] != 1:
            raise InvalidInputError(f"{tensor.name} holds a batch of {array.shape[0]}; a request is one caller's")
        array = array[0]
    return tensor.fit(array)


def respond(spec: ModelSpec, outputs: Mapping[str, object]) -> Any:
    """A response with every output of the model."""
    tensors = []
    for tensor in spec.outputs:
        array = tensor.fit(outputs[tensor.name])
        tensors.append(pb.Tensor(tensor.name, array[None] if spec.has_batch_dimension else array))
    return pb.InferenceResponse(output_tensors=tensors)


def refuse(error: Exception) -> Any:
    """A response that carries an error; one that is not of the house's tree is a defect, and goes to the log."""
    if not isinstance(error, StepAudioError):
        _LOG.error("unexpected error", exc_info=error)
        error = StepAudioError(f"{type(error).__name__} in the room; its log tells more")
    code = getattr(pb.TritonError, _CODES.get(error.grpc_code, "INTERNAL"))
    return pb.InferenceResponse(error=pb.TritonError(write_fault(error), code))


def outcome(error: Exception) -> str:
    """How a request ended, as a metric's label."""
    if isinstance(error, CancelledRequestError):
        return "cancelled"
    return "invalid" if isinstance(error, InvalidInputError) else "failed"
