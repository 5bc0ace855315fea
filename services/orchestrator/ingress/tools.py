"""Functions of the API, both ways: what a caller declares, what is called, what came of it.

Ranges are those of tools.proto. A caller names endpoints and servers that the operator has registered for its tenant;
a name that is not registered and one of another tenant are refused alike.
"""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from protos.gen.stepaudio.v1 import chat_pb2, session_pb2, tools_pb2
from services.orchestrator.conversation.events import ToolAnswered
from services.orchestrator.conversation.options import Tool, ToolExecutor, ToolSpeech
from services.orchestrator.conversation.record import (
    Message,
    Role,
    ToolCall,
    ToolExchange,
    ToolOutcome,
    ToolResult,
)
from services.orchestrator.ingress.fields import Fields
from services.orchestrator.ingress.limits import refusal
from services.orchestrator.pipeline.calls import schema_problem
from services.orchestrator.ports.tools import ToolRunner
from services.shared.errors import InvalidInputError, InvalidOptionError, TextTooLongError

MAX_TOOLS: Final = 64
LONGEST_DESCRIPTION: Final = 1024
LONGEST_PARAMETERS_BYTES: Final = 16 * 1024
LONGEST_TOOLS_BYTES: Final = 64 * 1024
"""Of all schemas of a session together: the model reads them before each reply."""
LONGEST_OUTPUT_BYTES: Final = 64 * 1024
LONGEST_ERROR_BYTES: Final = 4 * 1024
LONGEST_SPEECH: Final = 256
LONGEST_CALL_ID: Final = 128
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

OUTCOMES: Final[Mapping[ToolOutcome, tools_pb2.ToolCallOutcome.ValueType]] = MappingProxyType(
    {
        ToolOutcome.RETURNED: tools_pb2.TOOL_CALL_OUTCOME_RETURNED,
        ToolOutcome.FAILED: tools_pb2.TOOL_CALL_OUTCOME_FAILED,
        ToolOutcome.TIMED_OUT: tools_pb2.TOOL_CALL_OUTCOME_TIMED_OUT,
        ToolOutcome.CANCELLED: tools_pb2.TOOL_CALL_OUTCOME_CANCELLED,
    }
)
_EXECUTORS: Final[Mapping[str, ToolExecutor]] = MappingProxyType({kind.value: kind for kind in ToolExecutor})


async def check_schemas(tools: Sequence[tools_pb2.Tool]) -> None:
    """Check the schemas of functions in a thread: `read_tools` has to look up what was found, and holds nobody up.

    Args:
        tools: what came; too many or too much of them is left to be refused.
    """
    schemas = {tool.parameters_json for tool in tools if tool.parameters_json}
    if schemas and len(tools) <= MAX_TOOLS and sum(map(len, schemas)) <= LONGEST_TOOLS_BYTES:
        await asyncio.to_thread(lambda: [schema_problem(schema) for schema in schemas])


def read_tools(tools: tools_pb2.ToolSet, field: str, runner: ToolRunner | None, tenant: str) -> tuple[Tool, ...]:
    """Read the functions of a session.

    Args:
        tools: what came.
        field: its path in what the client sent.
        runner: of the server's functions.
        tenant: who declares them.

    Raises:
        InvalidOptionError: one is not as tools.proto says, or is not registered; or there are too many.
    """
    Fields(tools, field)
    path = f"{field}.tools" if field else "tools"
    if len(tools.tools) > MAX_TOOLS:
        raise refusal(InvalidOptionError, path, f"{len(tools.tools)} functions", f"at most {MAX_TOOLS}")
    size = sum(len(tool.parameters_json.encode()) for tool in tools.tools)
    if size > LONGEST_TOOLS_BYTES:
        limit = f"schemas of {LONGEST_TOOLS_BYTES} bytes together"
        raise refusal(InvalidOptionError, path, f"{size} bytes of schemas", limit)
    read = tuple(_read_tool(tool, f"{path}[{place}]", runner, tenant) for place, tool in enumerate(tools.tools))
    names = [tool.name for tool in read]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise refusal(InvalidOptionError, f"{path}[{place}].name", name, "a name that no other function has")
    return read


def read_tool_speech(speech: tools_pb2.ToolSpeech, field: str, usual: ToolSpeech) -> ToolSpeech:
    """Read what the agent says about functions. Raises InvalidOptionError."""
    fields = Fields(speech, field)
    return ToolSpeech(
        notice=fields.text("notice", usual.notice, LONGEST_SPEECH).strip(),
        notice_after_ms=fields.integer("notice_after_ms", usual.notice_after_ms, 200, 60_000),
        apology=fields.text("apology", usual.apology, LONGEST_SPEECH).strip(),
    )


def _read_tool(tool: tools_pb2.Tool, field: str, runner: ToolRunner | None, tenant: str) -> Tool:
    fields, usual = Fields(tool, field), Tool("", "")
    if not _NAME.fullmatch(tool.name):
        raise fields.refused("name", repr(tool.name[:80]), "1 to 64 of letters, digits, _ and -")
    if not 1 <= len(tool.description) <= LONGEST_DESCRIPTION:
        limit = f"1 to {LONGEST_DESCRIPTION} characters"
        raise fields.refused("description", f"{len(tool.description)} characters", limit)
    size = len(tool.parameters_json.encode())
    if size > LONGEST_PARAMETERS_BYTES:
        raise fields.refused("parameters_json", f"{size} bytes", f"at most {LONGEST_PARAMETERS_BYTES} bytes")
    if problem := schema_problem(tool.parameters_json):
        raise fields.refused("parameters_json", f"refused, since {problem}", "a JSON Schema of an object")
    kind = tool.WhichOneof("executor")
    if kind is None:
        raise fields.refused("executor", "not set", "client, http_endpoint or mcp_server")
    executor = _EXECUTORS[kind]
    registered = "" if executor is ToolExecutor.CLIENT else getattr(tool, kind)
    if executor is not ToolExecutor.CLIENT and (runner is None or not runner.has(tenant, executor, registered)):
        raise fields.refused(kind, repr(registered[:80]), "what this server's operator has registered")
    timeout_ms = fields.integer("timeout_ms", usual.timeout_ms, 100, 600_000)
    return Tool(tool.name, tool.description, tool.parameters_json, timeout_ms, executor, registered)


def tools_message(tools: tuple[Tool, ...], speech: ToolSpeech) -> tools_pb2.ToolSet:
    """Write the functions of a session, all values in force."""
    return tools_pb2.ToolSet(
        tools=[_tool_message(tool) for tool in tools],
        speech=tools_pb2.ToolSpeech(
            notice=speech.notice, notice_after_ms=speech.notice_after_ms, apology=speech.apology
        ),
    )


def _tool_message(tool: Tool) -> tools_pb2.Tool:
    message = tools_pb2.Tool(
        name=tool.name,
        description=tool.description,
        parameters_json=tool.parameters_json,
        timeout_ms=tool.timeout_ms,
    )
    match tool.executor:
        case ToolExecutor.CLIENT:
            message.client.SetInParent()
        case ToolExecutor.HTTP_ENDPOINT:
            message.http_endpoint = tool.registered_as
        case ToolExecutor.MCP_SERVER:
            message.mcp_server = tool.registered_as
    return message


def call_message(call: ToolCall) -> tools_pb2.ToolCall:
    """Write a call."""
    return tools_pb2.ToolCall(call_id=call.call_id, name=call.name, arguments_json=call.arguments_json)


def exchange_message(exchange: ToolExchange) -> session_pb2.ToolExchange:
    """Write a call and what came of it."""
    message = session_pb2.ToolExchange(call=call_message(exchange.call), outcome=OUTCOMES[exchange.outcome])
    if exchange.outcome is not ToolOutcome.CANCELLED:
        message.result.call_id = exchange.call.call_id
        if exchange.outcome is ToolOutcome.RETURNED:
            message.result.output = exchange.text
        else:
            message.result.error = exchange.text
    return message


def read_result(result: tools_pb2.ToolResult, field: str) -> ToolResult:
    """Read what came of a call.

    Raises:
        InvalidInputError: it says nothing, or has no id.
        TextTooLongError: it says more than it may.
    """
    kind = result.WhichOneof("outcome")
    if kind is None:
        raise refusal(InvalidInputError, f"{field}.outcome", "not set", "output or error")
    _checked_call_id(result.call_id, f"{field}.call_id")
    text: str = getattr(result, kind)
    longest = LONGEST_OUTPUT_BYTES if kind == "output" else LONGEST_ERROR_BYTES
    size = len(text.encode())
    if size > longest:
        raise refusal(TextTooLongError, f"{field}.{kind}", f"{size} bytes", f"at most {longest} bytes")
    return ToolResult(result.call_id, text, kind == "error")


def read_answer(result: tools_pb2.ToolResult, at_s: float) -> ToolAnswered:
    """Read a client's answer to a call. Raises as `read_result`."""
    read = read_result(result, "tool_result")
    return ToolAnswered(at_s, read.call_id, read.text, read.is_error, from_client=True)


def read_exchange_part(message: chat_pb2.ChatMessage, field: str) -> Message:
    """Read a message that is a call or its result. Raises InvalidInputError, TextTooLongError."""
    if message.HasField("tool_call"):
        if message.role != chat_pb2.CHAT_ROLE_ASSISTANT:
            raise refusal(InvalidInputError, f"{field}.role", str(message.role), "the assistant, who calls")
        return Message(Role.ASSISTANT, _read_call(message.tool_call, f"{field}.tool_call"))
    if message.role != chat_pb2.CHAT_ROLE_TOOL:
        raise refusal(InvalidInputError, f"{field}.role", str(message.role), "the tool, which answers")
    return Message(Role.TOOL, read_result(message.tool_result, f"{field}.tool_result"))


def _read_call(call: tools_pb2.ToolCall, field: str) -> ToolCall:
    _checked_call_id(call.call_id, f"{field}.call_id")
    if not _NAME.fullmatch(call.name):
        raise refusal(InvalidInputError, f"{field}.name", repr(call.name[:80]), "a function's name")
    size = len(call.arguments_json.encode())
    if size > LONGEST_PARAMETERS_BYTES:
        limit = f"at most {LONGEST_PARAMETERS_BYTES} bytes"
        raise refusal(TextTooLongError, f"{field}.arguments_json", f"{size} bytes", limit)
    try:
        is_object = isinstance(json.loads(call.arguments_json or "{}"), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise refusal(InvalidInputError, f"{field}.arguments_json", "something else", "a JSON object")
    return ToolCall(call.call_id, call.name, call.arguments_json or "{}")


def _checked_call_id(call_id: str, field: str) -> None:
    if not 1 <= len(call_id) <= LONGEST_CALL_ID:
        raise refusal(InvalidInputError, field, f"{len(call_id)} characters", f"1 to {LONGEST_CALL_ID} characters")
