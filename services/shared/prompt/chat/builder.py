"""The chat prompt, token by token.

    <s> <|BOT|>system\\n…<|EOT|> <|BOT|>human\\n…<|EOT|> <|BOT|>assistant\\n

Each turn's name and words are encoded together, so that the ids are those of the whole prompt encoded as one string;
but what people wrote is encoded as plain text, and a "<|EOT|>" typed by a user ends nothing. Speech stands as the ids
of its `<audio_N>` pieces, a call of a function between the two ids of its marks. Cutting a history to the model's
length is the caller's choice.

Source: stepaudio.py of the release; the leading <s> by the tokenizer's rule.
"""

from collections.abc import Sequence

from services.shared.errors import InvalidInputError
from services.shared.prompt.chat.call_marks import CALL_END, CALL_START
from services.shared.prompt.chat.messages import TURN_NAMES, CallContent, Message, SpeechContent
from services.shared.prompt.chat.system_prompts import ASR_SYSTEM_PROMPT
from services.shared.text import TextTokenizer


def build_chat_prompt(tokenizer: TextTokenizer, messages: Sequence[Message]) -> list[int]:
    """Write a conversation for the chat model, which then gives the assistant's next turn.

    Args:
        tokenizer: the chat checkpoint's.
        messages: the turns, oldest first; no system prompt is added to them.

    Returns:
        ids that end with an open assistant's turn.

    Raises:
        InvalidInputError: there are no messages, or a turn other than a last assistant's is open.
        TextError: a text is not valid Unicode.
    """
    if not messages:
        raise InvalidInputError("the conversation has no messages")
    *earlier, last = messages
    is_open = last.content is None
    if any(message.content is None for message in earlier) or (is_open and last.role != "assistant"):
        raise InvalidInputError("only the last message, and only the assistant's, may have no content")
    ids = [tokenizer.bos_id] if tokenizer.adds_bos else []
    for message in messages:
        ids += _turn(tokenizer, message)
    return ids if is_open else ids + _turn(tokenizer, Message("assistant", None))


def build_asr_prompt(tokenizer: TextTokenizer, speech: SpeechContent) -> list[int]:
    """Write the prompt that makes the chat model transcribe `speech`: ids, as `build_chat_prompt`."""
    return build_chat_prompt(tokenizer, [Message("system", ASR_SYSTEM_PROMPT), Message("user", speech)])


def _turn(tokenizer: TextTokenizer, message: Message) -> list[int]:
    opening = f"{TURN_NAMES[message.role]}\n"
    match message.content:
        case None:
            return [tokenizer.bot_id, *tokenizer.encode_text(opening + message.begun)]
        case SpeechContent(tokens=values):
            speech = [tokenizer.audio_offset + value for value in values]
            return [tokenizer.bot_id, *tokenizer.encode_text(opening), *speech, tokenizer.eot_id]
        case str(text):
            return [tokenizer.bot_id, *tokenizer.encode_text(opening + text), tokenizer.eot_id]
        case parts:
            return [tokenizer.bot_id, *_parts(tokenizer, opening, parts), tokenizer.eot_id]


def _parts(tokenizer: TextTokenizer, opening: str, parts: Sequence[str | CallContent]) -> list[int]:
    """Words and calls; neighbouring words are encoded as one text."""
    ids, text = list[int](), opening
    for part in parts:
        if isinstance(part, str):
            text += part
            continue
        ids += tokenizer.encode_text(text)
        ids += [tokenizer.id_of(CALL_START), *tokenizer.encode_text(part.text), tokenizer.id_of(CALL_END)]
        text = ""
    return ids + tokenizer.encode_text(text)
