"""Functions of the application that the agent may call, from Python functions.

    @tool
    async def weather(place: str, days: int = 1) -> str:
        '''Tells the weather of a place.

        Args:
            place: a town.
        '''
        return await look_it_up(place, days)

    async with Conversation(server, tools=[weather]) as conversation: ...

The signature and the docstring are what the model is told. A call runs beside the conversation, once, even over a lost
connection; it is cancelled when nobody waits for it any more, by an interruption or because it took too long. What it
returns is told to the model as it is if it is text, as JSON else; what it raises is told as its failure.
"""

import asyncio
import inspect
import json
import logging
import re
import types
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints, overload

from protos.gen.stepaudio.v1 import tools_pb2

LONGEST_OUTPUT_BYTES: Final = 64 * 1024
LONGEST_ERROR_CHARACTERS: Final = 1024
_NAMED: Final = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object"}
_ARGUMENT: Final = re.compile(r"^(\w+): (.+)$")
_log = logging.getLogger(__name__)

Result = Any  # whatever JSON holds
ToolFunction = Callable[..., Awaitable[Result]]


@dataclass(frozen=True, slots=True)
class ClientTool:
    """A function that the agent may call.

    Attributes:
        run: takes the arguments by name.
        declaration: as the server is told of it.
    """

    run: ToolFunction
    declaration: tools_pb2.Tool


@overload
def tool(function: ToolFunction) -> ClientTool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    timeout_s: float | None = None,
) -> Callable[[ToolFunction], ClientTool]: ...
def tool(
    function: ToolFunction | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    timeout_s: float | None = None,
) -> ClientTool | Callable[[ToolFunction], ClientTool]:
    """Make a function of the application one that the agent may call; a decorator, with or without arguments.

    Args:
        function: a coroutine function.
        name: by which the model calls it; its own if None.
        description: as the model reads it; the first paragraph of its docstring if None.
        parameters: JSON Schema of its arguments; made from its signature if None.
        timeout_s: how long a call may take; the server's default if None.

    Raises:
        TypeError: it is no coroutine function, or a parameter has no type that a schema can be made from.
        ValueError: it has no description.
    """

    def made(decorated: ToolFunction) -> ClientTool:
        if not inspect.iscoroutinefunction(decorated):
            raise TypeError(f"{decorated!r} is no coroutine function: write `async def`")
        summary, arguments = _documented(inspect.getdoc(decorated) or "")
        declaration = tools_pb2.Tool(
            name=name or decorated.__name__,
            description=description or summary,
            parameters_json=json.dumps(_schema(decorated, arguments) if parameters is None else parameters),
            client=tools_pb2.ClientExecutor(),
        )
        if not declaration.description:
            raise ValueError(f"{declaration.name} has no docstring: the model must know what it does")
        if timeout_s is not None:
            declaration.timeout_ms = round(timeout_s * 1000)
        return ClientTool(decorated, declaration)

    return made if function is None else made(function)


class Toolbox:
    """Runs the calls of one conversation.

    Args:
        tools: the functions; one that is not decorated is taken as `tool` takes it.
        answer: takes each result.
    """

    def __init__(
        self, tools: Iterable[ClientTool | ToolFunction], answer: Callable[[tools_pb2.ToolResult], Awaitable[None]]
    ) -> None:
        known = [each if isinstance(each, ClientTool) else tool(each) for each in tools]
        self._tools = {each.declaration.name: each for each in known}
        self._answer = answer
        self._running: dict[str, asyncio.Task[None]] = {}

    @property
    def declarations(self) -> list[tools_pb2.Tool]:
        """As the server is told of them."""
        return [each.declaration for each in self._tools.values()]

    def begin(self, call: tools_pb2.ToolCall, group: asyncio.TaskGroup) -> None:
        """Run a call, if its function is one of these; the application answers the others."""
        if call.name in self._tools and call.call_id not in self._running:
            task = group.create_task(self._run(call))
            self._running[call.call_id] = task
            task.add_done_callback(lambda _: self._running.pop(call.call_id, None))

    def end(self, call_id: str) -> None:
        """Nobody waits for a call any more."""
        if call_id in self._running:
            self._running[call_id].cancel()

    def close(self) -> None:
        """End all."""
        for call_id in list(self._running):
            self.end(call_id)

    async def _run(self, call: tools_pb2.ToolCall) -> None:
        result = tools_pb2.ToolResult(call_id=call.call_id)
        try:
            given = await self._tools[call.name].run(**json.loads(call.arguments_json))
            output = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
            if len(output.encode()) > LONGEST_OUTPUT_BYTES:
                raise ValueError(f"the result is larger than {LONGEST_OUTPUT_BYTES} bytes")
            result.output = output
        except Exception as error:  # noqa: BLE001 - what goes wrong in a function is told to the model
            _log.warning("the function %s failed", call.name, exc_info=error)
            result.error = (str(error) or type(error).__name__)[:LONGEST_ERROR_CHARACTERS]
        await self._answer(result)


def _documented(text: str) -> tuple[str, dict[str, str]]:
    """The first paragraph of a docstring, and what its `Args` say."""
    summary, _, rest = text.partition("\n\n")
    _, _, arguments = rest.partition("Args:\n")
    found: dict[str, str] = {}
    for line in arguments.splitlines():
        if line and not line[0].isspace():
            break
        if match := _ARGUMENT.match(line.strip()):
            found[match[1]] = match[2]
    return " ".join(summary.split()), found


def _schema(function: ToolFunction, documented: Mapping[str, str]) -> dict[str, Any]:
    hints = get_type_hints(function)
    properties: dict[str, Any] = {}
    required = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) or name not in hints:
            raise TypeError(f"the parameter {name} has no type, or cannot be given by name; give `parameters`")
        properties[name] = _type_schema(hints[name], name)
        if name in documented:
            properties[name]["description"] = documented[name]
        if parameter.default is parameter.empty:
            required.append(name)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _type_schema(kind: Any, name: str) -> dict[str, Any]:  # kind: a type or an alias of one, which share no base
    origin, parts = get_origin(kind), get_args(kind)
    if kind in _NAMED or origin is dict:
        return {"type": _NAMED[origin or kind]}
    if kind is list or origin is list:
        return {"type": "array", **({"items": _type_schema(parts[0], name)} if parts else {})}
    if origin is Literal:
        return {"enum": list(parts)}
    some = [part for part in parts if part is not types.NoneType]
    if origin in (Union, types.UnionType) and len(some) == 1:
        return {"anyOf": [_type_schema(some[0], name), {"type": "null"}]}
    raise TypeError(f"no schema can be made from the type of the parameter {name}; give `parameters`")
