"""What the chat model reads of a long conversation: it fits, it begins as before, and what leaves is summed up."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.conversation.options import (
    ContextOptions,
    ContextOverflow,
    GenerationOptions,
    Options,
)
from services.orchestrator.conversation.outputs import TurnEnded
from services.orchestrator.conversation.record import Role
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.pipeline.window import KEPT_SHARE, ContextWindow
from services.orchestrator.ports.rooms import ChatMessage, SpeechTokens
from services.shared.errors import RoomUnavailableError
from services.shared.paths import CHAT_FOLDER
from services.shared.prompt.chat import SUMMARY_HEADING, SUMMARY_SYSTEM_PROMPT, build_chat_prompt
from services.shared.prompt.chat import Message as PromptMessage
from services.shared.text import load_text_tokenizer
from tests.conftest import NANO
from tests.fakes.clock import run
from tests.fakes.rooms import FakeChatModel, Fault
from tests.orchestrator.pipeline.house import OPTIONS, house, start

pytestmark = pytest.mark.unit

PROMPT = "Be kind."
SYSTEM = ChatMessage(Role.SYSTEM, PROMPT)
ANA = ChatMessage(Role.SYSTEM, "The user is Ana.")


def options(tokens: int | None = None, *, longest: int = 100, sums_up: bool = False, prompt: str = "") -> Options:
    overflow = ContextOverflow.SUMMARISE if sums_up else ContextOverflow.DROP_OLDEST
    return Options(
        context=ContextOptions(max_context_tokens=tokens, overflow=overflow),
        generation=GenerationOptions(max_new_tokens=longest),
        system_prompt=prompt,
    )


def turns(count: int, letters: int = 40) -> list[ChatMessage]:
    return [
        ChatMessage(role, f"{number}{role}".ljust(letters, "x"))
        for number in range(count)
        for role in (Role.USER, Role.ASSISTANT)
    ]


def question(number: int) -> ChatMessage:
    return ChatMessage(Role.USER, f"question {number}")


class Window:
    """A window whose summaries are written when a test says so."""

    def __init__(self, chat: FakeChatModel | None = None, *, default_prompt: str = PROMPT) -> None:
        self.chat = chat or FakeChatModel()
        self.jobs: list[Coroutine[Any, Any, None]] = []
        self.window = ContextWindow(self.chat, PipelineLimits(), default_prompt=default_prompt, spawn=self.jobs.append)

    def read(self, said: list[ChatMessage], wanted: Options) -> list[ChatMessage]:
        return list(self.window.fit(said, wanted))

    def sum_up(self, said: list[ChatMessage], wanted: Options) -> None:
        self.window.sum_up(said, wanted)
        for job in self.jobs:
            asyncio.run(job)
        self.jobs.clear()


@given(st.integers(0, 30), st.integers(1, 600))
def test_what_is_read_fits_or_is_the_last_turn_alone_behind_the_system_prompt(count: int, budget: int) -> None:
    on = Window()
    said = [*turns(count), question(count)]
    system, *read = on.read(said, options(budget))
    assert system == SYSTEM
    assert read == said[len(said) - len(read) :]
    assert read[0].role is Role.USER
    assert on.window.prompt_tokens == on.chat.prompt_tokens([SYSTEM, *read])
    assert on.window.prompt_tokens <= budget or len(read) == 1


@given(st.integers(150, 900), st.lists(st.integers(1, 120), min_size=20, max_size=60))
def test_turn_by_turn_each_prompt_begins_as_the_one_before_but_where_a_block_has_left(
    budget: int, lengths: list[int]
) -> None:
    on = Window()
    said: list[ChatMessage] = [ANA]
    before: list[ChatMessage] = []
    moves = 0
    for number, letters in enumerate(lengths):
        read = on.read([*said, question(number)], options(budget))
        assert read[:2] == [SYSTEM, ANA]
        assert on.window.prompt_tokens <= budget
        if before and read[: len(before)] != before:
            moves += 1
            assert on.window.prompt_tokens <= KEPT_SHARE * budget or len(read) <= 5
        before = read
        said += [question(number), ChatMessage(Role.ASSISTANT, "x" * letters)]
    spoken = on.chat.prompt_tokens(said)
    assert moves <= 1 + spoken / ((1 - KEPT_SHARE) * budget - 40)


def test_consecutive_prompts_of_the_real_tokenizer_share_all_of_the_earlier_ones_ids() -> None:
    tokenizer = load_text_tokenizer(NANO / CHAT_FOLDER)

    def ids(read: list[ChatMessage]) -> list[int]:
        return build_chat_prompt(tokenizer, [PromptMessage(part.role.value, str(part.content)) for part in read])

    on, shares = Window(), list[bool]()
    said: list[ChatMessage] = []
    before: list[int] = []
    opened = len(ids([SYSTEM])) - len(ids([SYSTEM, SYSTEM])) + len(ids([SYSTEM]))  # what opens the assistant's turn
    for number in range(40):
        prompt = ids(on.read([*said, question(number)], options(400)))
        if before:
            shared = next((place for place, (a, b) in enumerate(zip(before, prompt, strict=False)) if a != b), None)
            whole = len(before) if shared is None else shared
            shares.append(whole >= len(before) - opened)
        before = prompt
        said += [question(number), ChatMessage(Role.ASSISTANT, "It rains in Lisbon today. " * 2)]
    assert shares.count(False) in range(1, 8)
    assert shares.count(True) > 30


def test_another_budget_chooses_anew() -> None:
    on = Window()
    said = [*turns(20), question(20)]
    few = on.read(said, options(200))
    assert len(on.read(said, options(400))) > len(few)
    assert len(on.read(said, options(4000))) == len(said) + 1


def test_without_a_limit_of_its_own_the_context_is_the_models_less_the_longest_reply() -> None:
    few, many = (Window(FakeChatModel(context_tokens=300)) for _ in range(2))
    assert len(few.read([*turns(6), question(6)], options())) == 14
    assert 100 < few.window.prompt_tokens <= 200
    assert len(many.read([*turns(8), question(8)], options())) < 14


def test_a_turn_without_words_among_those_that_left_moves_the_beginning_to_the_next_turn() -> None:
    on = Window()
    said = [*turns(20), question(20)]
    on.read(said, options(200))
    read = on.read([*said[1:], ChatMessage(Role.ASSISTANT, "yes"), question(21)], options(200))
    assert read[1].role is Role.USER


def test_a_block_is_summed_up_before_it_has_to_go_and_its_summary_takes_its_place() -> None:
    on = Window()
    said: list[ChatMessage] = [ANA]
    summaries = 0
    for number in range(60):
        read = on.read([*said, question(number)], options(400, sums_up=True))
        assert on.window.prompt_tokens <= 400
        on.chat.answers.append(f"Summary {summaries}.")
        asked = len(on.chat.asked)
        on.sum_up([*said, question(number)], options(400, sums_up=True))
        if len(on.chat.asked) > asked:
            system, block = on.chat.asked[-1]
            assert system == ChatMessage(Role.SYSTEM, SUMMARY_SYSTEM_PROMPT)
            assert str(block.content).startswith(
                f"{SUMMARY_HEADING}Summary {summaries - 1}." if summaries else "用户："
            )
            assert "用户：question" in str(block.content)
            assert "助手：Answer" in str(block.content)
            assert on.chat.works[-1].slack_ms > 0
            assert on.chat.works[-1].session == ""
            summaries += 1
        else:
            on.chat.answers.clear()
        said += [question(number), ChatMessage(Role.ASSISTANT, f"Answer {number}.")]
        if summaries:
            read = on.read([*said, question(number + 1)], options(400, sums_up=True))
            assert read[:3] == [SYSTEM, ANA, ChatMessage(Role.SYSTEM, f"{SUMMARY_HEADING}Summary {summaries - 1}.")]
            assert read[3].role is Role.USER
    assert 2 <= summaries <= 12
    kept = [str(message.content) for message in said if message not in read]
    summed = "".join(str(asked[1].content) for asked in on.chat.asked)
    assert kept == [text for text in kept if text == ANA.content or text in summed]


def test_a_summary_that_fails_leaves_its_block_out_and_is_tried_again() -> None:
    on = Window()
    said = [*turns(30), question(30)]
    on.chat.faults.append(Fault(RoomUnavailableError("gone")))
    first = on.read(said, options(400, sums_up=True))
    on.sum_up(said, options(400, sums_up=True))
    assert on.read(said, options(400, sums_up=True)) == first
    on.chat.answers.append("They said 0 to 20.")
    on.sum_up(said, options(400, sums_up=True))
    assert on.read(said, options(400, sums_up=True))[1].content == f"{SUMMARY_HEADING}They said 0 to 20."


def test_a_block_with_speech_whose_words_are_not_there_waits_for_them() -> None:
    on = Window()
    said = [ChatMessage(Role.USER, SpeechTokens((1, 2, 3, 4, 5) * 40)), *turns(10)[1:], question(10)]
    on.read(said, options(400, sums_up=True))
    on.sum_up(said, options(400, sums_up=True))
    assert not on.chat.asked
    said[0] = ChatMessage(Role.USER, "Hello.")
    on.chat.answers.append("They greeted.")
    on.sum_up(said, options(400, sums_up=True))
    assert len(on.chat.asked) == 1


def test_a_block_longer_than_the_models_context_is_summed_up_in_parts() -> None:
    on = Window(FakeChatModel(context_tokens=500))
    said = [*turns(60), question(60)]
    wanted = options(longest=100, sums_up=True)
    on.read(said, wanted)
    for _ in range(8):
        on.chat.answers.append("More of it.")
        on.sum_up(said, wanted)
    for asked in on.chat.asked:
        assert on.chat.prompt_tokens(asked) <= 500
    text = "".join(str(asked[1].content) for asked in on.chat.asked)
    read = on.read(said, wanted)
    assert all(str(message.content) in text for message in said if message not in read)


def test_in_a_conversation_the_summary_is_written_beside_it_and_every_turn_is_answered() -> None:
    async def main() -> None:
        async with house() as place, asyncio.TaskGroup() as tasks:
            wanted = Options(
                voice=OPTIONS.voice,
                context=ContextOptions(max_context_tokens=160, overflow=ContextOverflow.SUMMARISE),
                system_prompt="You are the captain of a ship.",
            )
            client = await start(place, tasks, options=wanted)
            for number in range(12):
                client.ask(f"This is what I have to ask you now, as number {number}?")
                await client.turns(number + 1)
            asked = place.rooms.chat.asked
            sums = [messages for messages in asked if messages[0].content == SUMMARY_SYSTEM_PROMPT]
            replies = [messages for messages in asked if messages[0].content == "You are the captain of a ship."]
            assert len(replies) == 12
            assert len(sums) >= 1
            assert len(sums) + len(replies) == len(asked)
            assert str(replies[-1][1].content).startswith(SUMMARY_HEADING)
            assert len(client.of(TurnEnded)) == 12
            client.hang_up()
        assert place.rooms.live == {}

    run(main())
