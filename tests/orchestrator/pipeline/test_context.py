"""The chat model reads what fits: the system prompt and the last turn always, the oldest turns first to go."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.conversation.options import ContextOptions, GenerationOptions, Options
from services.orchestrator.conversation.record import Message, Role, UtteranceSpeech
from services.orchestrator.pipeline.context import fit_messages, read_messages
from services.orchestrator.ports.rooms import ChatMessage, SpeechTokens
from tests.fakes.rooms import FakeChatModel

pytestmark = pytest.mark.unit


def turns(count: int, letters: int = 40) -> list[ChatMessage]:
    return [
        ChatMessage(role, f"{number}".ljust(letters, "x"))
        for number in range(count)
        for role in (Role.USER, Role.ASSISTANT)
    ] + [ChatMessage(Role.USER, "the last question")]


def options(tokens: int | None = None, *, prompt: str = "", longest: int = 100) -> Options:
    return Options(
        system_prompt=prompt,
        context=ContextOptions(max_context_tokens=tokens),
        generation=GenerationOptions(max_new_tokens=longest),
    )


def test_speech_stands_in_the_context_as_its_tokens() -> None:
    async def tokens_of(speech: UtteranceSpeech) -> tuple[int, ...]:
        return (speech.utterance,) * 5

    messages = (Message(Role.USER, "Hello."), Message(Role.USER, UtteranceSpeech(3)))
    read = asyncio.run(read_messages(messages, tokens_of))
    assert read == (ChatMessage(Role.USER, "Hello."), ChatMessage(Role.USER, SpeechTokens((3,) * 5)))


@given(st.integers(0, 30), st.integers(1, 600), st.booleans())
def test_what_is_read_fits_or_is_the_last_turn_alone_and_begins_with_the_user(
    count: int, budget: int, has_prompt: bool
) -> None:
    chat = FakeChatModel()
    prompt = "Be kind." if has_prompt else ""
    messages = turns(count)
    read = list(fit_messages(messages, chat, options(budget, prompt=prompt), default_prompt=""))
    assert read[-1] == messages[-1]
    if has_prompt:
        assert read.pop(0) == ChatMessage(Role.SYSTEM, prompt)
    assert read == messages[len(messages) - len(read) :]
    assert read[0].role is Role.USER
    head = [ChatMessage(Role.SYSTEM, prompt)] * has_prompt
    if len(read) > 1:
        assert chat.prompt_tokens([*head, *read]) <= budget
    if len(read) < len(messages):
        longer = messages[len(messages) - len(read) - 2 :]
        assert chat.prompt_tokens([*head, *longer]) > budget


def test_without_a_limit_of_its_own_the_context_is_the_models_less_the_longest_reply() -> None:
    chat = FakeChatModel(context_tokens=300)
    read = fit_messages(turns(30), chat, options(longest=100), default_prompt="")
    assert 200 - 28 < chat.prompt_tokens(read) <= 200


def test_the_default_prompt_stands_where_none_was_chosen_and_system_messages_of_the_history_stay() -> None:
    chat = FakeChatModel()
    history = [ChatMessage(Role.SYSTEM, "The user is Ana."), *turns(20)]
    read = fit_messages(history, chat, options(60), default_prompt="Answer briefly.")
    assert read[:2] == (ChatMessage(Role.SYSTEM, "Answer briefly."), ChatMessage(Role.SYSTEM, "The user is Ana."))
    assert len(read) < len(history)
