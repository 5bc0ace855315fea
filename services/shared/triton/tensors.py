"""What a model's door looks like: names, types and shapes of the tensors that pass, and how requests are scheduled.

Values only. It refuses to know any particular model (see `specs`) and how Triton writes this down (see `config`).
"""

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.shared.errors import InvalidInputError

Array: TypeAlias = NDArray[Any]  # one of the types of DType: which one, the spec says
ANY: Final = -1
"""A free dimension."""


class DType(StrEnum):
    """Element types of the KServe protocol that cross the doors; BYTES is text in UTF-8."""

    BOOL = "BOOL"
    INT32 = "INT32"
    INT64 = "INT64"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The type of an array of it."""
        return _NUMPY[self]


_NUMPY: Final = {
    DType.BOOL: np.dtype(np.bool_),
    DType.INT32: np.dtype(np.int32),
    DType.INT64: np.dtype(np.int64),
    DType.FP32: np.dtype(np.float32),
    DType.FP64: np.dtype(np.float64),
    DType.BYTES: np.dtype(np.object_),
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a door.

    Attributes:
        name: on the wire.
        dtype: of its elements.
        shape: without any batch dimension; `ANY` is a free one.
        doc: what it holds, with unit or range.
        optional: whether a request may leave it out.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    doc: str
    optional: bool = False

    def fit(self, value: object) -> Array:
        """The value as a contiguous array of this type and shape.

        Raises:
            InvalidInputError: its shape is another, or its type cannot become this one without loss of meaning.
        """
        array = np.asarray(value)
        if self.dtype is DType.BYTES:
            array = array.astype(np.object_)
        elif array.size and not np.can_cast(array.dtype, self.dtype.numpy, casting="same_kind"):
            raise InvalidInputError(f"{self.name} holds {array.dtype} values; the model takes {self.dtype}")
        self.check_shape(array.shape)
        return np.ascontiguousarray(array, dtype=self.dtype.numpy)

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise InvalidInputError unless the shape is one of this tensor."""
        if len(shape) != len(self.shape) or any(
            want not in (ANY, have) for want, have in zip(self.shape, shape, strict=False)
        ):
            raise InvalidInputError(f"{self.name} has the shape {list(shape)}, not {self.shape_text}")

    @property
    def shape_text(self) -> str:
        """The shape for people; a free dimension is N."""
        return "[" + ", ".join("N" if size == ANY else str(size) for size in self.shape) + "]"


class ModelKind(Enum):
    """How requests meet the model."""

    DECOUPLED = "one request, a stream of responses"
    SEQUENCE = "requests of one string correlation id meet one state"
    BATCHED = "stateless; requests of several callers are handed over together"
    SINGLE = "stateless, one after another"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One Triton model.

    Attributes:
        name: of the model, and of its folder.
        pool: the group of servers that runs it; a folder of the model repository.
        kind: how requests meet it.
        doc: what it does.
        inputs: what it takes.
        outputs: what it gives.
        max_batch: requests (or sequences) that one instance takes at the same time; 0 where the kind has no batches.
    """

    name: str
    pool: str
    kind: ModelKind
    doc: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int = 0

    @property
    def has_batch_dimension(self) -> bool:
        """Whether every tensor has a leading dimension on the wire; it is always 1: a request is one caller's."""
        return self.max_batch > 0

    def input(self, name: str) -> TensorSpec:
        """The input of that name. Raises InvalidInputError if there is none."""
        return _named(self.inputs, name, f"{self.name} takes no tensor {name}")

    def output(self, name: str) -> TensorSpec:
        """The output of that name. Raises InvalidInputError if there is none."""
        return _named(self.outputs, name, f"{self.name} gives no tensor {name}")


def _named(specs: tuple[TensorSpec, ...], name: str, message: str) -> TensorSpec:
    for spec in specs:
        if spec.name == name:
            return spec
    raise InvalidInputError(message)
