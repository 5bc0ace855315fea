"""Functions over the API: what may be declared, and conversations that call them, by the project's own client."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Literal

import pytest

from protos.gen.stepaudio.v1 import chat_pb2, conversation_pb2, options_pb2, speech_pb2, tools_pb2
from services.orchestrator.conversation.options import Options, Tool, ToolExecutor, ToolSpeech
from services.orchestrator.ingress.options import merge, to_message
from services.orchestrator.ingress.tools import check_schemas
from services.orchestrator.pipeline.calls import schema_problem
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.pipeline.observer import Unobserved
from services.orchestrator.pipeline.sessions import Sessions
from services.orchestrator.pipeline.surroundings import Surroundings
from services.orchestrator.pipeline.voices import VoiceBook
from services.orchestrator.ports.tools import ToolAnswer
from services.shared.errors import InvalidOptionError
from stepaudio import Client, Conversation, tool
from tests.fakes.rooms import FakeRooms
from tests.fakes.tools import FakeTools
from tests.orchestrator.ingress.serving import OFFER, Behind, run, serving

PLACE = '{"type": "object", "properties": {"place": {"type": "string"}}}'
ProtoTool = tools_pb2.Tool
CLIENT = tools_pb2.ClientExecutor()


def declared(**fields: Any) -> ProtoTool:
    """A function as a caller may declare it, but for these fields."""
    usual: dict[str, Any] = {"name": "weather", "description": "Tells the weather.", "parameters_json": PLACE}
    executor = {} if {"http_endpoint", "mcp_server"} & fields.keys() else {"client": CLIENT}
    return ProtoTool(**{**usual, **executor, **fields})


def options_of(*tools: ProtoTool, **speech: Any) -> options_pb2.SessionOptions:
    """Options that declare these functions."""
    said = tools_pb2.ToolSpeech(**speech)
    return options_pb2.SessionOptions(tools=tools_pb2.ToolSet(tools=tools, speech=said))


@pytest.mark.unit
def test_schemas_are_checked_while_the_loop_goes_on_and_looked_up_afterwards() -> None:
    properties = {f"property_{number}": {"type": "string"} for number in range(400)}
    large = declared(parameters_json=json.dumps({"type": "object", "properties": properties}))
    schema_problem.cache_clear()

    async def count() -> int:
        turns = 0
        checking = asyncio.ensure_future(check_schemas([large, declared(name="other")]))
        while not checking.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(count()) > 3
    assert schema_problem.cache_info().misses == 2
    merge(OFFER.defaults, options_of(large, declared(name="other")), OFFER)
    assert schema_problem.cache_info().misses == 2


def merged(message: options_pb2.SessionOptions) -> Options:
    offer = replace(OFFER, tools=FakeTools(asyncio.sleep))
    return merge(OFFER.defaults, message, offer, tenant="acme")


@pytest.mark.unit
def test_what_is_declared_is_in_force_told_again_and_replaced_as_a_whole() -> None:
    message = options_of(
        declared(timeout_ms=500), declared(name="pay", http_endpoint="registered"), notice="Wait.", notice_after_ms=300
    )
    options = merged(message)
    assert options.tools == (
        Tool("weather", "Tells the weather.", PLACE, 500),
        Tool("pay", "Tells the weather.", PLACE, 30_000, ToolExecutor.HTTP_ENDPOINT, "registered"),
    )
    assert options.tool_speech == ToolSpeech("Wait.", 300, ToolSpeech().apology)
    told = to_message(options, OFFER)
    assert (merged(told).tools, merged(told).tool_speech) == (options.tools, options.tool_speech)
    assert told.tools.tools[0].WhichOneof("executor") == "client"
    emptied = merge(options, options_pb2.SessionOptions(tools=tools_pb2.ToolSet()), OFFER)
    assert (emptied.tools, emptied.tool_speech) == ((), ToolSpeech())
    assert merge(options, options_pb2.SessionOptions(), OFFER) == options


DEEP = '{"a":' * 5_000 + "1" + "}" * 5_000
BOMB = json.dumps(
    {
        "type": "object",
        "allOf": [{"$ref": "#/$defs/d0"}],
        "$defs": {
            f"d{level}": {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}] * 2} if level < 40 else {} for level in range(41)
        },
    }
)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (declared(name=""), "name"),
        (declared(name="a b"), "name"),
        (declared(name="x" * 65), "name"),
        (declared(description=""), "description"),
        (declared(description="x" * 1025), "description"),
        (declared(parameters_json="{"), "parameters_json"),
        (declared(parameters_json="[]"), "parameters_json"),
        (declared(parameters_json='{"type": "string"}'), "parameters_json"),
        (declared(parameters_json='{"type": "object", "properties": 5}'), "parameters_json"),
        (declared(parameters_json='{"$ref": "http://127.0.0.1/secret"}'), "parameters_json"),
        (declared(parameters_json='{"$ref": "#"}'), "parameters_json"),
        (declared(parameters_json='{"$ref": "#/nowhere"}'), "parameters_json"),
        (declared(parameters_json=" " * 16_385), "parameters_json"),
        (declared(parameters_json=DEEP[:16_000]), "parameters_json"),
        (declared(parameters_json=BOMB), "parameters_json"),
        (declared(timeout_ms=99), "timeout_ms"),
        (declared(timeout_ms=600_001), "timeout_ms"),
        (declared(http_endpoint="http://10.0.0.1/"), "http_endpoint"),
        (declared(mcp_server=""), "mcp_server"),
        (ProtoTool(name="a", description="b"), "executor"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_function_that_is_not_as_the_api_says_is_refused_by_its_field(wrong: ProtoTool, field: str) -> None:
    with pytest.raises(InvalidOptionError) as refused:
        merged(options_of(declared(name="first"), wrong))
    assert refused.value.details["field"] == f"options.tools.tools[1].{field}"


@pytest.mark.unit
@pytest.mark.parametrize(
    "tools",
    [
        [declared(name=f"f{place}") for place in range(65)],
        [declared(), declared()],
        [declared(name=f"f{place}", parameters_json=json.dumps({"description": "x" * 16_000})) for place in range(5)],
    ],
    ids=["too many", "one name twice", "too large together"],
)
def test_functions_that_do_not_go_together_are_refused(tools: list[ProtoTool]) -> None:
    with pytest.raises(InvalidOptionError):
        merged(options_of(*tools))


@pytest.mark.unit
def test_a_servers_function_is_refused_where_the_server_has_none() -> None:
    with pytest.raises(InvalidOptionError):
        merge(OFFER.defaults, options_of(declared(http_endpoint="registered")), OFFER)


@asynccontextmanager
async def house(tools: FakeTools | None = None) -> AsyncIterator[tuple[str, FakeRooms]]:
    """A server over a whole replica, all but its rooms and functions; gives its address."""
    behind = Behind(tools=tools)
    shared = Surroundings(
        rooms=behind.rooms.rooms,
        voices=VoiceBook(behind.rooms.rooms.built_in, behind.voices),
        detector=behind.detector,
        store=behind.store,
        limits=PipelineLimits(resume_window_s=0.5, closing_s=1.0),
        observer=Unobserved(),
        clock=time.monotonic,
        wall_clock=behind.clock,
        chance=random.Random(1),
        default_prompt="",
        tools=tools,
    )
    async with Sessions(shared, owner="replica") as sessions, serving(behind, sessions=sessions) as served:
        yield f"127.0.0.1:{served.port}", behind.rooms


def called(name: str, **arguments: object) -> str:
    return f"<|CALL_START|>{json.dumps({'name': name, 'arguments': arguments})}<|CALL_END|>"


async def turn_of(conversation: Conversation, text: str) -> tuple[Any, list[str]]:
    """Write a turn and wait for its end; gives its record, and the kinds of events."""
    await conversation.send_text(text)
    kinds: list[str] = []
    async for event in conversation:
        kinds.append(str(event.WhichOneof("event")))
        if event.HasField("reply_ended"):
            await conversation.acknowledge(event.turn, event.reply_ended.total_samples)
        if event.HasField("turn_ended"):
            return event.turn_ended.record, kinds
    raise AssertionError("the conversation ended")


@pytest.mark.integration
def test_a_python_function_of_the_client_is_called_over_grpc_and_its_failure_is_spoken_of() -> None:
    asked: list[tuple[str, str]] = []

    @tool(timeout_s=5.0)
    async def weather(place: str, scale: Literal["C", "F"] = "C") -> dict[str, object]:
        """Tells the weather of a place.

        Args:
            place: a town.
        """
        asked.append((place, scale))
        if place == "Atlantis":
            raise LookupError("there is no such place")
        return {"sky": "sunny", "degrees": 20}

    async def light(on: bool) -> str:
        """Switches the light."""
        return "x" * 70_000

    async def test() -> None:
        async with house() as (address, rooms), Conversation(address, tools=[weather, light]) as conversation:
            in_force = conversation.session.options.tools.tools
            assert [declared.name for declared in in_force] == ["weather", "light"]
            assert in_force[0].timeout_ms == 5_000
            rooms.chat.answers += [f"Let me see. {called('weather', place='Rome')}", "It is sunny in Rome."]
            record, kinds = await turn_of(conversation, "What is the weather in Rome?")
            assert record.agent_text == "Let me see. It is sunny in Rome."
            assert asked == [("Rome", "C")]
            (exchange,) = record.tool_exchanges
            assert json.loads(exchange.result.output) == {"sky": "sunny", "degrees": 20}
            assert exchange.outcome == tools_pb2.TOOL_CALL_OUTCOME_RETURNED
            assert kinds.index("tool_call_requested") < kinds.index("tool_call_ended") < kinds.index("turn_ended")

            for call, told in (
                (called("weather", place="Atlantis"), "there is no such place"),
                (called("weather", place="Rome", scale="K"), "scale: 'K' is not one of ['C', 'F']"),
                (called("light", on=True), "the result is larger than 65536 bytes"),
                ("<|CALL_START|>light(on)<|CALL_END|>", "the call is not JSON"),
            ):
                rooms.chat.answers += [call, "That did not work."]
                record, _ = await turn_of(conversation, "And now?")
                assert record.agent_text == "That did not work."
                (exchange,) = record.tool_exchanges
                assert exchange.result.error == told
                assert exchange.outcome == tools_pb2.TOOL_CALL_OUTCOME_FAILED

    run(test)


@pytest.mark.integration
def test_an_interruption_cancels_the_clients_function_and_the_conversation_goes_on() -> None:
    cancelled = asyncio.Event()

    async def slow() -> str:
        """Takes its time."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return ""

    async def test() -> None:
        async with house() as (address, rooms), Conversation(address, tools=[slow]) as conversation:
            rooms.chat.answers += [called("slow"), "Good."]
            await conversation.send_text("Do it.")
            async for event in conversation:
                if event.HasField("tool_call_requested"):
                    await asyncio.sleep(0)
                    await conversation.interrupt()
                if event.HasField("turn_ended"):
                    break
            await cancelled.wait()
            record, _ = await turn_of(conversation, "How are you?")
            assert record.agent_text == "Good."

    run(test)


@pytest.mark.integration
def test_the_server_runs_what_its_operator_has_registered_and_the_client_is_told() -> None:
    async def test() -> None:
        tools = FakeTools(asyncio.sleep)
        tools.answers["weather"] = (0.01, ToolAnswer("sunny"))
        start = conversation_pb2.SessionStart(options=options_of(declared(http_endpoint="registered")))
        async with house(tools) as (address, rooms), Conversation(address, start) as conversation:
            rooms.chat.answers += [called("weather", place="Rome"), "It is sunny."]
            await conversation.send_text("And the weather?")
            told = []
            async for event in conversation:
                told += [event.tool_call_requested] if event.HasField("tool_call_requested") else []
                if event.HasField("reply_ended"):
                    assert event.reply_ended.text == "It is sunny."
                    break
            assert [request.client_runs for request in told] == [False]
            assert tools.asked[0].tenant

    run(test)


@pytest.mark.integration
def test_what_was_called_before_the_session_is_known_to_the_model() -> None:
    async def test() -> None:
        call = tools_pb2.ToolCall(call_id="old", name="weather", arguments_json='{"place": "Rome"}')
        history = [
            chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, text="The weather in Rome?"),
            chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_ASSISTANT, tool_call=call),
            chat_pb2.ChatMessage(
                role=chat_pb2.CHAT_ROLE_TOOL, tool_result=tools_pb2.ToolResult(call_id="old", output="sunny")
            ),
            chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_ASSISTANT, text="It is sunny."),
        ]
        start = conversation_pb2.SessionStart(history=history)
        async with house() as (address, rooms), Conversation(address, start) as conversation:
            rooms.chat.answers += ["You are welcome."]
            await turn_of(conversation, "Thank you.")
            roles = [message.role.value for message in rooms.chat.asked[0]]
            assert roles == ["user", "assistant", "tool", "assistant", "user"]

    run(test)


@pytest.mark.integration
def test_chat_gives_calls_for_the_caller_to_run() -> None:
    async def test() -> None:
        async with house() as (address, rooms), Client(address) as client:
            rooms.chat.answers += [f"Let me see. {called('weather', place='Rome')}"]
            asked = [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, text="The weather in Rome?")]
            parts = [part async for part in client.chat(asked, tools=[declared()])]
            assert "".join(part.text for part in parts).strip() == "Let me see."
            (call,) = [part.tool_call for part in parts if part.HasField("tool_call")]
            assert (call.name, json.loads(call.arguments_json)) == ("weather", {"place": "Rome"})
            assert parts[-1].finished.reason == speech_pb2.CHAT_FINISH_REASON_TOOL_CALLS

    run(test)
