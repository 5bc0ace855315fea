"""The weights inside an ONNX file, by name, without a runtime.

    model ─ 7 ─> graph ─ 1 ─> node ─┬─ 4 ─> operator: Constant
                   ^                ├─ 2 ─> name of what it gives
                   │                └─ 5 ─> attribute ─┬─ 5 ─> tensor: 1 shape, 2 type, 9 numbers
                   └───────────────────────────── 6 ───┘       (a branch is a graph of its own)

It reads what a file of constants needs and no more: float32 tensors written as raw bytes.
Source: the field numbers of onnx.proto, and protobuf's wire format.
"""

from collections.abc import Iterator
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

_GRAPH, _NODE, _ATTRIBUTE = 7, 1, 5
_OPERATOR, _OUTPUT = 4, 2
_TENSOR, _BRANCH = 5, 6
_SHAPE, _TYPE, _RAW = 1, 2, 9
_FLOAT32: Final = 1
_LITTLE_ENDIAN: Final = np.dtype("<f4")

Weights: TypeAlias = dict[str, NDArray[np.float32]]


def read_weights(data: bytes) -> Weights:
    """Read all float32 constants of a model, also those of its branches.

    Args:
        data: the whole file.

    Raises:
        ValueError: it is no such file.
    """
    weights: Weights = {}
    for graph in _messages(memoryview(data), _GRAPH):
        _read_graph(graph, weights)
    return weights


def _read_graph(graph: memoryview, weights: Weights) -> None:
    for node in _messages(graph, _NODE):
        is_constant = [bytes(name) for name in _messages(node, _OPERATOR)] == [b"Constant"]
        for attribute in _messages(node, _ATTRIBUTE):
            for branch in _messages(attribute, _BRANCH):
                _read_graph(branch, weights)
            for tensor in _messages(attribute, _TENSOR) if is_constant else ():
                numbers = _tensor(tensor)
                if numbers is not None:
                    weights[str(next(_messages(node, _OUTPUT)), "utf-8")] = numbers


def _tensor(tensor: memoryview) -> NDArray[np.float32] | None:
    shape = [value for number, value in _fields(tensor) if number == _SHAPE and isinstance(value, int)]
    if (_TYPE, _FLOAT32) not in ((number, value) for number, value in _fields(tensor) if number == _TYPE):
        return None
    raw = next(_messages(tensor, _RAW), None)
    return None if raw is None else np.frombuffer(raw, _LITTLE_ENDIAN).reshape(shape).astype(np.float32)


def _messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
    """The fields of this number that are strings of bytes."""
    return (value for number, value in _fields(data) if number == wanted and isinstance(value, memoryview))


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Every field of a message; numbers of a fixed width are passed over."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        match key & 7:
            case 0:
                value, place = _varint(data, place)
                yield key >> 3, value
            case 2:
                length, place = _varint(data, place)
                if place + length > len(data):
                    raise ValueError("a field ends behind its message")
                yield key >> 3, data[place : place + length]
                place += length
            case 1 | 5 as width:
                place += 8 if width == 1 else 4
            case kind:
                raise ValueError(f"fields of kind {kind} are not read")


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
    raise ValueError("a number ends behind its message")
