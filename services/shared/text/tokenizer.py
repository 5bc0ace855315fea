"""The text tokenizer of a Step-Audio checkpoint: sentencepiece with the semantics the models were trained with.

Three rules stand beside the sentencepiece file; they are those of the class that tokenizer_config.json names:

    specials   every control and user-defined piece written in a template is one token      <|BOT|> -> 4
    first "▁"  only at the very start of the text, not after a special        human -> ▁human, <|BOT|>human -> human
    BOS        <s> comes first, unless tokenizer_config.json says `add_bos_token: false`

Text that a user typed goes through `encode_text`, where a special is nothing but its characters: whoever types
"<|EOT|>" cannot end a turn. Every special id is looked up in the file; the id of `<audio_0>` differs between
checkpoints. What a prompt looks like is the rooms' business.

Source: tokenizer.model and tokenizer_config.json of the public checkpoints (LlamaTokenizer, `legacy: false`).
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import sentencepiece

from services.shared.codec.codebooks import CODEC_SIZE
from services.shared.errors import CorruptFileError, TextError, UnknownTokenError
from services.shared.files import read_json, require_file
from services.shared.text.pieces import Piece, PieceKind, read_pieces
from services.shared.text.stream import StreamDecoder

MODEL_FILE: Final = "tokenizer.model"
CONFIG_FILE: Final = "tokenizer_config.json"

_SPACE: Final = "▁"
_BOS: Final = "<s>"
_EOT: Final = "<|EOT|>"
_BOT: Final = "<|BOT|>"
_FIRST_AUDIO: Final = "<audio_0>"
_LAST_AUDIO: Final = f"<audio_{CODEC_SIZE - 1}>"
_SPECIAL_KINDS: Final = frozenset({PieceKind.UNKNOWN, PieceKind.CONTROL, PieceKind.USER_DEFINED})

# normalizer_spec { add_dummy_prefix: false }. Messages of the format merge by concatenation, so these bytes after the
# file switch off the library's own "▁", which it would put before every text, also after a special.
_NO_DUMMY_PREFIX: Final = b"\x1a\x02\x18\x00"


class TextTokenizer:
    """Encodes templates and untrusted text, decodes replies.

    Attributes:
        vocab_size: number of ids.
        bos_id, eot_id, bot_id: ids of <s>, <|EOT|> (ends a turn) and <|BOT|> (begins one).
        audio_offset: id of <audio_0>; codec value v is id audio_offset + v.
        adds_bos: whether `encode` puts <s> first, by the checkpoint's configuration.
    """

    def __init__(self, model: bytes, *, adds_bos: bool) -> None:
        """Args: model: bytes of a tokenizer.model. adds_bos: whether <s> comes first.

        Raises:
            ValueError, RuntimeError: the bytes are no sentencepiece model.
            UnknownTokenError: a piece that every prompt needs is not in it.
        """
        pieces = read_pieces(model)
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model + _NO_DUMMY_PREFIX)
        self._id_of = {piece.text: index for index, piece in enumerate(pieces)}
        self._bytes_of = [_bytes_of(piece) for piece in pieces]
        specials = [piece.text for piece in pieces if piece.kind in _SPECIAL_KINDS]
        self._specials = frozenset(specials)
        self._special_lengths = sorted({len(text) for text in specials}, reverse=True)
        self._special_start = re.compile("[" + re.escape("".join(sorted({text[0] for text in specials}))) + "]")
        self.vocab_size = len(pieces)
        self.adds_bos = adds_bos
        self.bos_id = self.id_of(_BOS)
        self.eot_id = self.id_of(_EOT)
        self.bot_id = self.id_of(_BOT)
        self.audio_offset = self.id_of(_FIRST_AUDIO)
        if self.id_of(_LAST_AUDIO) != self.audio_offset + CODEC_SIZE - 1:
            raise UnknownTokenError(f"{_FIRST_AUDIO} to {_LAST_AUDIO} are not consecutive ids")

    def id_of(self, piece: str) -> int:
        """Id of a piece, written as in the vocabulary ("▁" for a space).

        Raises:
            UnknownTokenError: the vocabulary has no such piece.
        """
        try:
            return self._id_of[piece]
        except KeyError:
            raise UnknownTokenError(f"the vocabulary has no piece {piece!r}") from None

    def encode(self, template: str) -> list[int]:
        """Encode trusted text, in which specials are tokens, by the three rules above.

        Raises:
            TextError: the text is not valid Unicode.
        """
        ids = [self.bos_id] if self.adds_bos else []
        end = 0
        for start, special in self._find_specials(template):
            ids += self._encode_between(template[end:start], at_start=end == 0)
            ids.append(self._id_of[special])
            end = start + len(special)
        return ids + self._encode_between(template[end:], at_start=end == 0)

    def encode_text(self, text: str) -> list[int]:
        """Encode untrusted text as it continues a prompt: no BOS, no first "▁", and every special as its characters.

        Returns:
            ids, none of them of a control or user-defined piece.

        Raises:
            TextError: the text is not valid Unicode.
        """
        ids: list[int] = []
        end = 0
        for start, _ in self._find_specials(text, overlapping=True):
            # A special cut after its first character is no piece any more.
            ids += self._encode_between(text[end : start + 1], at_start=False)
            end = start + 1
        return ids + self._encode_between(text[end:], at_start=False)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`: control pieces leave no text, `<audio_N>` stands as written, broken UTF-8 becomes U+FFFD.

        Raises:
            UnknownTokenError: an id is outside the vocabulary.
        """
        decoder = self.stream_decoder()
        return decoder.push(ids) + decoder.finish()

    def stream_decoder(self) -> StreamDecoder:
        """Start decoding one text id by id; its pieces of text join to what `decode` returns."""
        return StreamDecoder(self._bytes)

    def _bytes(self, token: int) -> bytes:
        if not 0 <= token < self.vocab_size:
            raise UnknownTokenError(f"token {token} is outside the vocabulary of {self.vocab_size}")
        return self._bytes_of[token]

    def _encode_between(self, text: str, *, at_start: bool) -> list[int]:
        if not text:
            return []
        if at_start and not text.startswith((" ", _SPACE)):
            text = _SPACE + text
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TextError(f"the text is not valid Unicode: {error.reason} at character {error.start}") from error
        return [int(token) for token in self._processor.encode(text)]

    def _find_specials(self, text: str, *, overlapping: bool = False) -> Iterator[tuple[int, str]]:
        """Walk the specials of `text`, (position, piece), leftmost first and the longest at its position."""
        end = 0
        for match in self._special_start.finditer(text):
            start = match.start()
            if start < end:
                continue
            for length in self._special_lengths:
                if (candidate := text[start : start + length]) in self._specials:
                    yield start, candidate
                    end = start + (1 if overlapping else len(candidate))
                    break


def load_text_tokenizer(folder: str | Path) -> TextTokenizer:
    """Read the tokenizer of a checkpoint folder (Step-Audio-Chat or Step-Audio-TTS-3B).

    Raises:
        MissingFileError: the folder lacks tokenizer.model or tokenizer_config.json.
        CorruptFileError: one of them cannot be used.
    """
    adds_bos = _read_adds_bos(Path(folder) / CONFIG_FILE)
    path = require_file(Path(folder), MODEL_FILE)
    try:
        return TextTokenizer(path.read_bytes(), adds_bos=adds_bos)
    except (ValueError, RuntimeError, UnknownTokenError) as error:
        raise CorruptFileError(f"{path} is no tokenizer of Step-Audio ({error}); download it again") from error


def _read_adds_bos(path: Path) -> bool:
    config = read_json(path)
    # An absent key means true: that is the default of the class the file names.
    adds_bos = config.get("add_bos_token", True) if isinstance(config, dict) else None
    if not isinstance(adds_bos, bool):
        raise CorruptFileError(f"{path}: add_bos_token must be true or false; correct it or download the file again")
    return adds_bos


def _bytes_of(piece: Piece) -> bytes:
    """UTF-8 bytes that a piece stands for in decoded text."""
    match piece.kind:
        case PieceKind.BYTE:
            return bytes([int(piece.text[3:5], 16)])  # <0xE4>
        case PieceKind.CONTROL:
            return b""
        case PieceKind.NORMAL:
            return piece.text.replace(_SPACE, " ").encode("utf-8")
        case _:
            return piece.text.encode("utf-8")
