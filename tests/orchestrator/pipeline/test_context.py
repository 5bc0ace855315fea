"""Speech stands as tokens; the system prompt is the caller's or the server's, and asks for style tags on request."""

import asyncio

import pytest

from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.record import Message, Role, UtteranceSpeech
from services.orchestrator.pipeline.context import read_messages, split_head
from services.orchestrator.ports.rooms import ChatMessage, SpeechTokens
from services.shared.prompt.chat import CHAT_SYSTEM_PROMPT, STYLE_TAG_RULE, STYLE_TAG_SYSTEM_PROMPT

pytestmark = pytest.mark.unit

ROLE = "You are the captain of a ship."
ANA = ChatMessage(Role.SYSTEM, "The user is Ana.")
HELLO = ChatMessage(Role.USER, "Hello.")


def test_speech_stands_in_the_context_as_its_tokens() -> None:
    async def tokens_of(speech: UtteranceSpeech) -> tuple[int, ...]:
        return (speech.utterance,) * 5

    messages = (Message(Role.USER, "Hello."), Message(Role.USER, UtteranceSpeech(3)))
    read = asyncio.run(read_messages(messages, tokens_of))
    assert read == (ChatMessage(Role.USER, "Hello."), ChatMessage(Role.USER, SpeechTokens((3,) * 5)))


PROMPTS = [
    # the caller's prompt, style tags, the system prompt that is read
    ("", False, CHAT_SYSTEM_PROMPT),
    ("", True, STYLE_TAG_SYSTEM_PROMPT),
    (CHAT_SYSTEM_PROMPT, True, STYLE_TAG_SYSTEM_PROMPT),
    (ROLE, False, ROLE),
    (ROLE, True, f"{ROLE}\n{STYLE_TAG_RULE}"),
]


@pytest.mark.parametrize(("chosen", "style_tags", "wanted"), PROMPTS)
def test_there_is_one_system_prompt_and_system_messages_of_the_history_follow_it(
    chosen: str, style_tags: bool, wanted: str
) -> None:
    own = [ChatMessage(Role.SYSTEM, chosen)] if chosen else []
    options = Options(system_prompt=chosen, style_tags=style_tags)
    head, body = split_head([*own, ANA, HELLO], options, default_prompt=CHAT_SYSTEM_PROMPT)
    assert (head, body) == ([ChatMessage(Role.SYSTEM, wanted), ANA], [HELLO])


def test_without_any_prompt_there_is_none() -> None:
    assert split_head([HELLO], Options(), default_prompt="") == ([], [HELLO])
