"""What is recorded of words where nobody has asked for them: their shape, and nothing that they say.

    said      Yes, my number is five 5 B, thanks.      她说：你好
    recorded  Yes, xx xxxxxx xx zero 0 X, thanks.      字字：你好

Letters become x or X (é or É beyond ASCII), digits 0, characters of East Asian scripts 字; punctuation, spaces and
lengths stay, for the core counts characters and looks for the ends of words. It does so character by character, so that
a piece of a hidden text is the hidden form of the piece.

What the user said decides about turns by the closed tables of conversation/words.py: a listener's sounds and answers of
one word stay as they are, and words of a spelling all become the same one. So a recording without words decides as the
conversation did.
"""

import re
from typing import Final

from services.orchestrator.conversation.effects import ResumeReply, SaveOpenTurn, StartReply
from services.orchestrator.conversation.events import (
    ReplyTextMade,
    Say,
    TextTurn,
    ToolAnswered,
    ToolCallMade,
    Transcribed,
)
from services.orchestrator.conversation.options import Options, Tool, ToolSpeech
from services.orchestrator.conversation.outputs import ReplyEnded, ReplyResumed, ReplyText, Transcript
from services.orchestrator.conversation.record import (
    Message,
    ReplyBasis,
    Role,
    ToolCall,
    ToolExchange,
    ToolResult,
    TurnRecord,
)
from services.orchestrator.conversation.words import is_back_channel, is_one_answer, is_spelling
from services.orchestrator.replay.codec import RecordedTurn

USERS: Final = frozenset(
    {
        (TextTurn, "text"),
        (Transcribed, "text"),
        (Transcript, "text"),
        (SaveOpenTurn, "user_text"),
        (TurnRecord, "user_text"),
        (RecordedTurn, "user_text"),
    }
)
"""What the user said, always whole; so is the content of a message of the user."""
OTHERS: Final = frozenset(
    {
        (Say, "text"),
        (ReplyTextMade, "text"),
        (ReplyText, "text"),
        (ReplyEnded, "text"),
        (ReplyResumed, "text"),
        (StartReply, "words"),
        (ResumeReply, "text"),
        (ResumeReply, "words"),
        (ReplyBasis, "text"),
        (ReplyBasis, "words"),
        (SaveOpenTurn, "agent_text"),
        (TurnRecord, "agent_text"),
        (RecordedTurn, "agent_text"),
        (Message, "content"),
        (Options, "system_prompt"),
        (Tool, "description"),
        (ToolSpeech, "notice"),
        (ToolSpeech, "apology"),
        (Tool, "parameters_json"),
        (ToolCall, "arguments_json"),
        (ToolCallMade, "problem"),
        (ToolAnswered, "text"),
        (ToolResult, "text"),
        (ToolExchange, "text"),
    }
)
NAMES: Final = frozenset(
    {
        "request_id",
        "call_id",
        "name",
        "registered_as",
        "voice_id",
        "session_id",
    }
)
"""Fields that name things and say nothing."""

_EAST_ASIAN: Final = "\u2e80"
_WORD: Final = re.compile(r"(?:[^\W_]|['’-])+")
_PHRASES: Final = frozenset({"i", "see", "got", "it", "go", "on"})


def hide(kind: type, field: str, text: str, value: object) -> str:
    """A text as it is written; what is in no table is hidden too."""
    if field in NAMES:
        return text
    is_users = isinstance(value, Message) and value.role is Role.USER
    return hide_users(text) if is_users or (kind, field) in USERS else hide_characters(text)


def hide_characters(text: str) -> str:
    """The shape of a text, character by character."""
    return "".join(map(_hidden, text))


def hide_users(text: str) -> str:
    """The shape of what the user said, and the words in it that decide about turns."""
    return _WORD.sub(lambda found: _hidden_word(found.group()), text)


def _hidden_word(word: str) -> str:
    if is_back_channel(word) or is_one_answer(word) or word.lower() in _PHRASES:
        return word
    is_east_asian = word[0] >= _EAST_ASIAN
    if (len(word) > 1 or is_east_asian) and not word.isdecimal() and is_spelling(f"{word} {word}"):
        return "零" * len(word) if is_east_asian else "zero"
    return hide_characters(word)


def _hidden(character: str) -> str:
    if not character.isalnum():
        return character
    if character.isdecimal():
        return "0"
    if character >= _EAST_ASIAN:
        return "字"
    is_plain = character.lower().isascii()  # a letter of a spelling is one of these
    return ("X" if is_plain else "É") if character.isupper() else ("x" if is_plain else "é")
