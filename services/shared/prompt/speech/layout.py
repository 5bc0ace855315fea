"""The speech model's prompt, token by token: a dialogue in which the voice has already spoken once.

    BOS BOT system⏎ SYS EOT
        BOT human⏎ what the clip says EOT  BOT assistant⏎ the clip's codes EOT
        BOT human⏎ the text EOT            BOT assistant⏎

Role strings are encoded by the tokenizer as they are, so a tokenizer that puts BOS first also puts one after every BOT:
the released model was tuned on that. The two texts carry neither BOS nor a leading "▁" (the released code encodes them
behind a newline and cuts its ids off), and a special piece typed in them is spoken, not obeyed. Every id comes from the
tokenizer of the checkpoint; this module knows none. Source: the released tts.py, `tokenize`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.shared.codec import CODEC_SIZE
from services.shared.errors import UnknownTokenError
from services.shared.prompt.speech.system_prompts import HUMMING_PROMPT, NARRATOR_PROMPT, RAP_PROMPT, SPEAKER_PROMPT
from services.shared.prompt.speech.tags import HUMMING_TAG, is_music


class PromptTokenizer(Protocol):
    """What the layout asks of a text tokenizer."""

    @property
    def bos_id(self) -> int:
        """Id of `<s>`."""
        ...

    @property
    def bot_id(self) -> int:
        """Id of `<|BOT|>`, which opens a turn."""
        ...

    @property
    def eot_id(self) -> int:
        """Id of `<|EOT|>`, which closes a turn."""
        ...

    @property
    def audio_offset(self) -> int:
        """Id of `<audio_0>`."""
        ...

    def encode(self, template: str, /) -> list[int]:
        """Ids of trusted text, with BOS in front if the checkpoint's configuration says so."""
        ...

    def encode_text(self, text: str, /) -> list[int]:
        """Ids of untrusted text that continues a prompt: no BOS, no leading "▁", no special pieces."""
        ...


@dataclass(frozen=True, slots=True)
class VoicePrompt:
    """What the speech model hears of a voice.

    Attributes:
        speaker: the name the system prompt mentions; empty for a clone, which then gets the prompt without a name.
        text: what the clip says.
        tokens: the clip's codec values 0..5119, whole 2:3 groups.
    """

    speaker: str
    text: str
    tokens: tuple[int, ...]


def build_prompt(tokenizer: PromptTokenizer, text: str, voice: VoicePrompt) -> list[int]:
    """Lay out the prompt that makes the model speak `text` in `voice`.

    Args:
        tokenizer: the checkpoint's text tokenizer.
        text: what to speak, its leading tags included.
        voice: the clip that gives the voice.

    Returns:
        The prompt's ids; the model goes on with speech ids.

    Raises:
        UnknownTokenError: a voice token is outside the codec.
    """

    def turn(role: str, content: Iterable[int]) -> list[int]:
        return [tokenizer.bot_id, *tokenizer.encode(f"{role}\n"), *content, tokenizer.eot_id]

    return [
        tokenizer.bos_id,
        *(tokenizer.bot_id, *tokenizer.encode("system\n" + system_prompt(text, voice.speaker)), tokenizer.eot_id),
        *turn("human", tokenizer.encode_text(voice.text)),
        *turn("assistant", _speech_ids(voice.tokens, tokenizer.audio_offset)),
        *turn("human", tokenizer.encode_text(text)),
        *(tokenizer.bot_id, *tokenizer.encode("assistant\n")),
    ]


def system_prompt(text: str, speaker: str) -> str:
    """Choose the system prompt: by the leading tag for music, else by whether the voice has a name."""
    if is_music(text):
        return HUMMING_PROMPT if HUMMING_TAG in text else RAP_PROMPT
    return SPEAKER_PROMPT.format(speaker) if speaker else NARRATOR_PROMPT


def _speech_ids(tokens: Sequence[int], audio_offset: int) -> list[int]:
    for token in tokens:
        if not 0 <= token < CODEC_SIZE:
            raise UnknownTokenError(f"voice token {token} is outside 0..{CODEC_SIZE - 1}")
    return [audio_offset + token for token in tokens]
