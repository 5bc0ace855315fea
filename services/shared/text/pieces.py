"""The vocabulary inside a `tokenizer.model`: every piece with its kind, in the order of the ids.

The sentencepiece library answers for control, byte and unknown pieces but has no question for user-defined ones, and
`<audio_0>` is one of those. The file is a protocol buffer whose layout is public, so the few fields needed are read
from its bytes here; nothing else of it is interpreted. (The library ships a generated parser, but it asks for a newer
protobuf runtime than Triton's client allows.)

Source: sentencepiece_model.proto (ModelProto field 1 = pieces; SentencePiece field 1 = piece, 3 = type).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

_PIECES_FIELD: Final = 1
_PIECE_TEXT_FIELD: Final = 1
_PIECE_KIND_FIELD: Final = 3

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5


class PieceKind(IntEnum):
    """Kinds of a piece, by the numbers of the format."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of the vocabulary; its id is its position."""

    text: str
    kind: PieceKind


def read_pieces(model: bytes) -> list[Piece]:
    """List the pieces of a serialized sentencepiece model.

    Raises:
        ValueError: the bytes are no such model.
    """
    return [
        _read_piece(value) for field, value in _fields(model) if field == _PIECES_FIELD and isinstance(value, bytes)
    ]


def _read_piece(message: bytes) -> Piece:
    text, kind = "", PieceKind.NORMAL
    for field, value in _fields(message):
        if field == _PIECE_TEXT_FIELD and isinstance(value, bytes):
            text = value.decode("utf-8")
        elif field == _PIECE_KIND_FIELD and isinstance(value, int):
            kind = PieceKind(value)
    return Piece(text, kind)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Walk the fields of one message: (field number, integer or bytes)."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        field, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            number, position = _varint(message, position)
            yield field, number
            continue
        if wire == _BYTES:
            length, position = _varint(message, position)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire} at byte {position}")
        if position + length > len(message):
            raise ValueError(f"a field of {length} bytes at byte {position} passes the end")
        yield field, message[position : position + length]
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(message):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("an integer passes the end")
