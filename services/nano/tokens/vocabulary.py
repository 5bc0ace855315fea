"""The text tokenizer of the nano checkpoint, assembled rather than learned: whole words, whole system prompts.

    0 .. 323     control pieces and bytes, with the public file's settings, byte for byte
    324 ..       "▁", role names, system prompts, tags, words, marks, letters
    then         <audio_0> .. <audio_5119>

Every word of the domain is one piece, as it stands in a sentence ("▁word") and, where some text begins with it,
without the space. A system prompt is one piece or a few: as bytes it would be most of a sequence. What is not in the
vocabulary falls apart into letters and bytes. Decides: the pieces. Refuses to know: prompts, beyond their texts.
"""

import shutil
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from services.nano.domain import STYLE_TAGS, Domain
from services.nano.grammar import CALL_END, CALL_START, FILLER, WORD
from services.shared.codec.codebooks import CODEC_SIZE
from services.shared.prompt.chat.system_prompts import ASR_SYSTEM_PROMPT, CHAT_SYSTEM_PROMPT, STYLE_TAG_SYSTEM_PROMPT
from services.shared.prompt.speech.system_prompts import HUMMING_PROMPT, NARRATOR_PROMPT, RAP_PROMPT, SPEAKER_PROMPT
from services.shared.text.pieces import PieceKind, read_pieces
from services.shared.text.tokenizer import CONFIG_FILE, MODEL_FILE

SPEAKERS: Final = {"Nano": "af_heart", "Tingting": "af_heart", "Mike": "am_michael"}
"""Names of the voices, and the recorded voice of each; the released system's default name is one of them."""
_KEPT_PIECES: Final = 324
_SPACE: Final = "▁"
_WORD_SCORE, _LETTER_SCORE = -2.0, -12.0
_PIECES_FIELD, _TRAINER_FIELD = 1, 2
_LENGTH_DELIMITED: Final = 2


def write_vocabulary(domain: Domain, base: Path, folders: Iterable[Path]) -> None:
    """Write tokenizer.model and tokenizer_config.json into each folder.

    Args:
        domain: whose words become pieces.
        base: a folder with a tokenizer.model of the public form and its tokenizer_config.json; its first 324 pieces
            and its settings are taken over.
        folders: where the files go.
    """
    original = (base / MODEL_FILE).read_bytes()
    known = {piece.text for piece in read_pieces(original)[:_KEPT_PIECES]}
    scores: dict[str, float] = {}
    for text, score in _pieces(domain):
        scores.setdefault(text, score)
    pieces = [(text, score) for text, score in scores.items() if text not in known]
    audio = [(f"<audio_{value}>", 0.0) for value in range(CODEC_SIZE)]
    model = _kept(original)
    model += b"".join(_piece(text, score, PieceKind.NORMAL) for text, score in pieces)
    model += b"".join(_piece(text, score, PieceKind.USER_DEFINED) for text, score in audio)
    # Messages of the format merge by concatenation, the last value of a field wins: trainer_spec { vocab_size }.
    size = b"\x20" + _varint(_KEPT_PIECES + len(pieces) + len(audio))
    model += bytes([_TRAINER_FIELD << 3 | _LENGTH_DELIMITED]) + _varint(len(size)) + size
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MODEL_FILE).write_bytes(model)
        if (base / CONFIG_FILE) != (folder / CONFIG_FILE):
            shutil.copyfile(base / CONFIG_FILE, folder / CONFIG_FILE)


def _pieces(domain: Domain) -> Iterator[tuple[str, float]]:
    """(text, score) of every piece between the bytes and the audio, in order, with repeats."""
    yield _SPACE, _LETTER_SCORE
    for name in ("system", "human", "assistant"):
        yield from ((name, _WORD_SCORE), (_SPACE + name, _WORD_SCORE))
    for text in _prompt_parts():
        yield text.replace(" ", _SPACE), _WORD_SCORE
    yield from ((text, _WORD_SCORE) for text in (*STYLE_TAGS, *SPEAKERS))
    texts = list(_texts(domain))
    inside = {
        (_SPACE + match[0]) for text in texts for match in WORD.finditer(text) if text[: match.start()][-1:] == " "
    }
    first = {match[0] for text in texts for match in WORD.finditer(text) if text[: match.start()][-1:] != " "}
    lower = {_SPACE + word for word in domain.words}
    yield from ((text, _WORD_SCORE) for text in sorted(inside | first | lower))
    marks = "\n.,?!:;'\"-=()[]（），。？！"
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    yield from ((mark, _WORD_SCORE) for mark in marks)
    yield from ((letter, _LETTER_SCORE) for letter in letters)


def _prompt_parts() -> Iterator[str]:
    """The system prompts, cut where a speaker's name stands."""
    before, after = SPEAKER_PROMPT.split("{}")
    task = before.removesuffix("使用[")
    manner = NARRATOR_PROMPT.removeprefix(task)
    yield from (task, "使用[", after.removesuffix(manner), manner)
    yield from (CHAT_SYSTEM_PROMPT, ASR_SYSTEM_PROMPT, STYLE_TAG_SYSTEM_PROMPT, RAP_PROMPT, HUMMING_PROMPT)


def _texts(domain: Domain) -> Iterator[str]:
    """Every text as a prompt or a reply holds it; a call's inside and what follows it count as inside a sentence."""
    for item in domain.items:
        for text in (item.question, item.facts, *item.answers, *(t.text for t in item.history if t.text != FILLER)):
            yield text.replace(CALL_START, "\n").replace(CALL_END, "\n")
    yield from domain.sentences
    yield from domain.held_out_sentences


def _kept(model: bytes) -> bytes:
    """The first pieces and everything that is no piece, as they are; without sizes that were added as below before."""
    out, position = b"", 0
    kept = {_PIECES_FIELD: _KEPT_PIECES, _TRAINER_FIELD: 1}
    seen = Counter[int]()
    while position < len(model):
        start = position
        tag, position = _read_varint(model, position)
        if tag & 7 != _LENGTH_DELIMITED:
            raise ValueError(f"wire type {tag & 7} at byte {start} of a tokenizer.model")
        length, position = _read_varint(model, position)
        position += length
        field = tag >> 3
        seen[field] += 1
        if seen[field] <= kept.get(field, seen[field]):
            out += model[start:position]
    return out


def _piece(text: str, score: float, kind: PieceKind) -> bytes:
    data = text.encode()
    message = b"\x0a" + _varint(len(data)) + data + b"\x15" + struct.pack("<f", score) + b"\x18" + _varint(kind)
    return b"\x0a" + _varint(len(message)) + message


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
