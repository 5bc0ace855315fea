"""Conversations with functions in virtual time: the agent keeps speaking, and nothing ends a session."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from services.orchestrator.conversation.events import Interrupt, OptionsChanged, ToolAnswered
from services.orchestrator.conversation.options import Options, Tool, ToolExecutor, ToolSpeech
from services.orchestrator.conversation.outputs import (
    Refused,
    ReplyAudio,
    ReplyEnded,
    ToolCallEnded,
    ToolCallRequested,
    TurnEnded,
)
from services.orchestrator.conversation.record import Outcome, ToolOutcome, ToolResult
from services.orchestrator.ports.tools import ToolAnswer
from services.shared.errors import GenerationError, ToolCallNotFoundError
from tests.fakes.clock import run
from tests.fakes.rooms import PACED, Fault
from tests.fakes.tools import FakeTools
from tests.orchestrator.pipeline.house import OPTIONS, Client, House, house, loop_time, resume, start

pytestmark = pytest.mark.unit

PLACE = '{"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}'
WEATHER = Tool("weather", "Tells the weather.", PLACE, 10_000, ToolExecutor.HTTP_ENDPOINT, "registered")
LIGHT = Tool("light", "Switches the light.", timeout_ms=5_000)
SPEECH = ToolSpeech("One moment.", 1_000, "Sorry.")
TOOLS = replace(OPTIONS, tools=(WEATHER, LIGHT), tool_speech=SPEECH)
CALL = '<|CALL_START|>{"name": "weather", "arguments": {"place": "Rome"}}<|CALL_END|>'
LIGHT_CALL = '<|CALL_START|>{"name": "light", "arguments": {}}<|CALL_END|>'


def conversation(test: Callable[[House, FakeTools, Client], Awaitable[None]], options: Options = TOOLS) -> None:
    """One conversation; when it is over nothing runs any more, in any room and of any function."""

    async def whole() -> None:
        tools = FakeTools(asyncio.sleep)
        async with house(PACED, tools=tools) as place, asyncio.TaskGroup() as tasks:
            client = await start(place, tasks, options=options)
            await test(place, tools, client)
            place.rooms.chat.answers.append("We are still here.")
            ended = len(client.of(TurnEnded))
            client.ask("Are you there?")
            await client.turns(ended + 1)
            assert client.of(TurnEnded)[-1].record.agent_text == "We are still here.", "a dead session"
            client.hang_up()
            assert not place.rooms.live
            assert not tools.live

    run(whole())


def silences_s(heard_s: list[tuple[float, float]]) -> list[float]:
    """Silences between pieces of a reply, for a listener who plays what comes at once."""
    return [max(begin - end, 0.0) for (_, end), (begin, _) in itertools.pairwise(heard_s)]


async def played(client: Client) -> list[tuple[float, float]]:
    """When each piece of audio is heard, from … to; to be run beside the conversation until a turn ends."""
    heard: list[tuple[float, float]] = []
    seen = 0
    while not client.of(TurnEnded):
        await asyncio.sleep(0.01)
        pieces = client.of(ReplyAudio)
        for piece in pieces[seen:]:
            begin_s = max(loop_time(), heard[-1][1] if heard else 0.0)
            heard.append((begin_s, begin_s + (piece.end_sample - piece.first_sample) / 22_050))
        seen = len(pieces)
    return heard


def test_a_conversation_with_a_slow_function_keeps_speaking() -> None:
    async def test(place: House, tools: FakeTools, client: Client) -> None:
        place.rooms.chat.answers += [f"Let me look that up. {CALL}", "It is sunny in Rome."]
        tools.answers["weather"] = (6.0, ToolAnswer("sunny"))
        client.ask("What is the weather in Rome?")
        heard = await played(client)
        await client.turns(1)
        record = client.of(TurnEnded)[0].record
        assert record.agent_text == "Let me look that up. One moment. It is sunny in Rome."
        assert record.outcome is Outcome.COMPLETED
        (exchange,) = record.tool_exchanges
        assert (exchange.outcome, exchange.text) == (ToolOutcome.RETURNED, "sunny")
        assert 6.0 <= exchange.duration_s < 6.1
        assert tools.asked[0].call.arguments_json == '{"place": "Rome"}'
        silences = sorted(silences_s(heard))
        print(f"silences during a call of 6 s: {[round(silence, 2) for silence in silences[-3:]]} s")
        assert silences[-1] < 6.0 - 1.0 - 0.5, "it waited in silence"
        assert sum(silence > 0.1 for silence in silences) == 2, "before the notice and after it"
        assert min(silence for silence in silences if silence > 0.1) < 1.5

    conversation(test)


def test_audio_of_the_reply_goes_on_while_a_function_runs() -> None:
    async def test(place: House, tools: FakeTools, client: Client) -> None:
        words = "I will look that up for you now, and it will not take long at all."
        place.rooms.chat.answers += [f"{words} {CALL}", "It is sunny."]
        tools.answers["weather"] = (2.0, ToolAnswer("sunny"))
        client.ask("And the weather?")
        await client.turns(1)
        kinds = [type(output) for output in client.outputs]
        asked, ended = kinds.index(ToolCallRequested), kinds.index(ToolCallEnded)
        assert kinds[asked:ended].count(ReplyAudio) > 5
        assert client.text == f"{words} It is sunny.", "a notice though there was no silence"
        assert place.rooms.chat.asked[1][-1].content == ToolResult("call-1-1-0-1", "sunny")

    conversation(test)


def test_a_client_runs_its_own_function_and_a_second_result_is_ignored() -> None:
    async def test(place: House, tools: FakeTools, client: Client) -> None:
        place.rooms.chat.answers += [LIGHT_CALL, "The light is on."]
        client.ask("Light, please.")
        await client.until(lambda it: bool(it.of(ToolCallRequested)))
        (asked,) = client.of(ToolCallRequested)
        assert (asked.call.name, asked.client_runs, asked.timeout_ms) == ("light", True, 5_000)
        for text in ("on", "off"):
            client.stream.tell(ToolAnswered(loop_time(), asked.call.call_id, text, from_client=True))
        await client.turns(1)
        assert client.text == "The light is on."
        assert client.of(ToolCallEnded) == [ToolCallEnded(asked.call.call_id, ToolOutcome.RETURNED)]
        assert not client.of(Refused)
        client.stream.tell(ToolAnswered(loop_time(), "nobody's", "x", from_client=True), message_number=9)
        await client.until(lambda it: bool(it.of(Refused)))
        assert isinstance(client.of(Refused)[0].error, ToolCallNotFoundError)

    conversation(test)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("<|CALL_START|>weather Rome<|CALL_END|>", "the call is not JSON"),
        ("<|CALL_START|>[1]<|CALL_END|>", 'the call is no JSON object with a "name"'),
        ('<|CALL_START|>{"name": "fly"}<|CALL_END|>', "there is no function 'fly'"),
        ('<|CALL_START|>{"name": "weather", "arguments": {}}<|CALL_END|>', "'place' is a required property"),
        (
            '<|CALL_START|>{"name": "weather", "arguments": {"place": 5}}<|CALL_END|>',
            "place: 5 is not of type 'string'",
        ),
        ('<|CALL_START|>{"name": "light", "arguments": {"now": true}}<|CALL_END|>', "light takes no arguments"),
    ],
)
def test_a_call_that_cannot_be_run_is_the_models_to_mend_and_is_never_spoken(written: str, told: str) -> None:
    async def test(place: House, tools: FakeTools, client: Client) -> None:
        place.rooms.chat.answers += [f"Let me see. {written}", "I could not find that out."]
        client.ask("And the weather?")
        await client.turns(1)
        assert client.text == "Let me see. I could not find that out."
        assert not any("CALL" in clause or "{" in clause for clause in place.rooms.speech.spoken)
        assert not tools.asked
        assert not client.of(ToolCallRequested)
        (exchange,) = client.of(TurnEnded)[0].record.tool_exchanges
        assert (exchange.outcome, exchange.text, exchange.executor) == (ToolOutcome.FAILED, told, None)

    conversation(test)


@pytest.mark.parametrize(
    ("after_s", "answer", "outcome", "told"),
    [
        (99.0, ToolAnswer("late"), ToolOutcome.TIMED_OUT, "the function did not answer in time"),
        (0.5, ToolAnswer("no such city", is_error=True), ToolOutcome.FAILED, "no such city"),
        (0.5, RuntimeError("a defect"), ToolOutcome.FAILED, "the function failed"),
    ],
)
def test_a_function_that_fails_is_spoken_of(
    after_s: float, answer: ToolAnswer | Exception, outcome: ToolOutcome, told: str
) -> None:
    async def test(place: House, tools: FakeTools, client: Client) -> None:
        place.rooms.chat.answers += [CALL, "I cannot tell."]
        tools.answers["weather"] = (after_s, answer)
        client.ask("And the weather?")
        await client.turns(1)
        record = client.of(TurnEnded)[0].record
        assert record.agent_text.endswith("I cannot tell.")
        assert record.outcome is Outcome.COMPLETED
        assert [(call.outcome, call.text) for call in record.tool_exchanges] == [(outcome, told)]
        assert client.of(ToolCallEnded)[0].outcome is outcome
        assert bool(tools.cancelled) is (outcome is ToolOutcome.TIMED_OUT)

    conversation(test)


@pytest.mark.parametrize("answer", ["", "!?"])
def test_where_the_model_has_no_words_for_a_failure_the_apology_is_said(answer: str) -> None:
    async def test(place: House, tools: FakeTools, client: Client) -> None:
        place.rooms.chat.answers += [f"Let me see. {CALL}", answer]
        if answer:
            place.rooms.chat.faults += [None, Fault(GenerationError("nothing of use"))]
        tools.answers["weather"] = (0.5, ToolAnswer("no such city", is_error=True))
        client.ask("And the weather?")
        await client.turns(1)
        record = client.of(TurnEnded)[0].record
        assert (record.agent_text, record.outcome) == ("Let me see. Sorry.", Outcome.COMPLETED)

    conversation(test)


def test_where_words_were_said_and_the_call_went_well_the_model_may_say_no_more() -> None:
    async def test(place: House, tools: FakeTools, client: Client) -> None:
        place.rooms.chat.answers += [f"Okay, the light is on. {LIGHT_CALL}", ""]
        client.ask("Light!")
        await client.until(lambda it: bool(it.of(ToolCallRequested)))
        client.stream.tell(ToolAnswered(loop_time(), "call-1-1-0-1", "ok", from_client=True))
        await client.turns(1)
        record = client.of(TurnEnded)[0].record
        assert (record.agent_text.strip(), record.outcome) == ("Okay, the light is on.", Outcome.COMPLETED)

    conversation(test)


def test_a_huge_result_is_cut_to_what_the_model_can_read_and_it_is_told_so() -> None:
    async def test(place: House, tools: FakeTools, client: Client) -> None:
        place.rooms.chat.answers += [CALL, "That is much."]
        tools.answers["weather"] = (0.1, ToolAnswer("x" * 60_000))
        client.ask("And the weather?")
        await client.turns(1)
        assert client.text == "That is much."
        content = place.rooms.chat.asked[1][-1].content
        assert isinstance(content, ToolResult)
        assert content.text.endswith("[cut here: 60000 characters in all]")
        assert 5_000 < len(content.text) < 15_000

    conversation(test)


def test_a_barge_in_cancels_the_function_and_its_result_comes_too_late() -> None:
    async def test(place: House, tools: FakeTools, client: Client) -> None:
        place.rooms.chat.answers += [f"Let me see. {CALL}"]
        tools.answers["weather"] = (5.0, ToolAnswer("sunny"))
        client.ask("And the weather?")
        await client.until(lambda it: bool(it.of(ToolCallRequested)))
        await asyncio.sleep(1.5)
        client.stream.tell(Interrupt(loop_time()))
        await client.turns(1)
        (call,) = client.of(ToolCallRequested)
        assert tools.cancelled == [call.call.call_id]
        assert client.of(ToolCallEnded) == [ToolCallEnded(call.call.call_id, ToolOutcome.CANCELLED)]
        assert client.of(TurnEnded)[0].record.outcome is Outcome.INTERRUPTED
        client.stream.tell(ToolAnswered(loop_time(), call.call.call_id, "sunny", from_client=False))
        await asyncio.sleep(1)
        assert not client.of(Refused)

    conversation(test)


def test_two_calls_of_one_reply_run_beside_each_other() -> None:
    async def test(place: House, tools: FakeTools, client: Client) -> None:
        place.rooms.chat.answers += [f"{CALL}{CALL}", "Both are sunny."]
        tools.answers["weather"] = (3.0, ToolAnswer("sunny"))
        client.ask("Rome and Rome?")
        begun_s = loop_time()
        await client.until(lambda it: len(it.of(ToolCallEnded)) == 2)
        assert loop_time() - begun_s < 3.5
        await client.turns(1)
        assert client.text == "One moment. Both are sunny."

    conversation(test)


def test_a_model_that_calls_without_end_is_stopped_and_speaks() -> None:
    async def test(place: House, tools: FakeTools, client: Client) -> None:
        place.rooms.chat.answers += [CALL] * 16 + ["Enough."]
        tools.answers["weather"] = (0.0, ToolAnswer("sunny"))
        client.ask("And the weather?")
        await client.turns(1)
        assert client.text == "Enough."
        assert len(tools.asked) == 16
        assert place.rooms.chat.offered[-1] == ()

    conversation(test)


def test_a_call_where_no_function_was_offered_is_dropped_and_the_words_are_spoken() -> None:
    async def test(place: House, tools: FakeTools, client: Client) -> None:
        place.rooms.chat.answers += [f"{CALL}Okay."]
        client.ask("And the weather?")
        await client.turns(1)
        assert client.text == "Okay."
        assert client.of(TurnEnded)[0].record.tool_exchanges == ()

    conversation(test, OPTIONS)


def test_a_session_that_ends_cancels_its_functions() -> None:
    async def whole() -> None:
        tools = FakeTools(asyncio.sleep)
        tools.answers["weather"] = (50.0, ToolAnswer("sunny"))
        async with house(PACED, tools=tools) as place, asyncio.TaskGroup() as tasks:
            place.rooms.chat.answers += [CALL]
            client = await start(place, tasks, options=replace(TOOLS, tools=(replace(WEATHER, timeout_ms=60_000),)))
            client.ask("And the weather?")
            await client.until(lambda it: bool(it.of(ToolCallRequested)))
            await asyncio.sleep(0)
            client.hang_up()
        assert not tools.live
        assert len(tools.cancelled) == 1

    run(whole())


def test_a_client_that_comes_back_is_asked_again_and_the_reply_goes_on() -> None:
    async def whole() -> None:
        async with house(PACED) as place, asyncio.TaskGroup() as tasks:
            place.rooms.chat.answers += [f"Let me see what I can do about the light. {LIGHT_CALL}", "The light is on."]
            first = await start(place, tasks, options=TOOLS)
            first.ask("Light, please.")
            await first.until(lambda it: len(it.of(ReplyAudio)) > 3 and bool(it.of(ToolCallRequested)))
            first.hang_up()
            again = await resume(place, tasks, first)
            await again.until(lambda it: bool(it.of(ToolCallRequested)))
            (asked,) = again.of(ToolCallRequested)
            assert asked.call == first.of(ToolCallRequested)[0].call
            again.stream.tell(ToolAnswered(loop_time(), asked.call.call_id, "on", from_client=True))
            await again.turns(1)
            text = again.of(TurnEnded)[0].record.agent_text
            assert text == "Let me see what I can do about the light. The light is on."
            assert again.of(ReplyEnded)
            assert len(place.rooms.chat.asked) == 2, "it was asked again, and might have called again"
            again.hang_up()

    run(whole())


def test_functions_can_be_taken_away_in_a_live_session() -> None:
    async def test(place: House, tools: FakeTools, client: Client) -> None:
        client.stream.tell(OptionsChanged(loop_time(), replace(TOOLS, tools=())))
        place.rooms.chat.answers += ["No."]
        client.ask("And the weather?")
        await client.turns(1)
        assert place.rooms.chat.offered == [()]

    conversation(test)
