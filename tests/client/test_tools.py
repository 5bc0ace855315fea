"""Python functions as functions that the agent may call: what is declared, and how a call is run once and answered."""

import asyncio
import json
from typing import Literal

import pytest

from protos.gen.stepaudio.v1 import tools_pb2
from stepaudio import ClientTool, tool
from stepaudio.tools import Toolbox

pytestmark = pytest.mark.unit


def schema_of(made: ClientTool) -> object:
    return json.loads(made.declaration.parameters_json)


def test_signature_and_docstring_are_what_the_model_is_told() -> None:
    @tool
    async def weather(
        place: str, *, days: int = 1, scale: Literal["C", "F"] = "C", towns: list[str] | None = None
    ) -> str:
        """Tells the weather
        of a place.

        It may take a while.

        Args:
            place: a town.
            days: from today on.

        Returns:
            place: nothing of this is an argument.
        """
        return place

    declared = weather.declaration
    assert (declared.name, declared.description) == ("weather", "Tells the weather of a place.")
    assert declared.WhichOneof("executor") == "client"
    assert not declared.HasField("timeout_ms")
    assert schema_of(weather) == {
        "type": "object",
        "properties": {
            "place": {"type": "string", "description": "a town."},
            "days": {"type": "integer", "description": "from today on."},
            "scale": {"enum": ["C", "F"]},
            "towns": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
        },
        "required": ["place"],
        "additionalProperties": False,
    }


def test_whatever_is_given_takes_the_place_of_what_is_found() -> None:
    @tool(name="sky", description="Looks up.", parameters={"type": "object"}, timeout_s=0.5)
    async def look(**anything: object) -> str:
        return ""

    assert (look.declaration.name, look.declaration.description) == ("sky", "Looks up.")
    assert look.declaration.timeout_ms == 500
    assert schema_of(look) == {"type": "object"}


def test_what_cannot_be_declared_is_refused_at_once() -> None:
    def plain() -> None:
        """Is no coroutine function."""

    async def silent() -> None: ...

    async def untyped(place) -> None:  # type: ignore[no-untyped-def]  # on purpose
        """Has no type."""

    async def odd(place: complex) -> None:
        """Has a type that JSON has not."""

    for wrong, problem in ((plain, TypeError), (silent, ValueError), (untyped, TypeError), (odd, TypeError)):
        with pytest.raises(problem):
            tool(wrong)  # type: ignore[arg-type]  # on purpose


def test_a_call_runs_once_and_is_answered_or_cancelled() -> None:
    runs: list[str] = []

    async def greet(name: str) -> object:
        """Greets."""
        runs.append(name)
        if name == "slow":
            await asyncio.Event().wait()
        if name == "nobody":
            raise ValueError
        return {"greeting": f"Hello {name}"}

    async def main() -> list[tools_pb2.ToolResult]:
        answers: list[tools_pb2.ToolResult] = []

        async def answer(result: tools_pb2.ToolResult) -> None:
            answers.append(result)

        box = Toolbox([greet], answer)
        async with asyncio.TaskGroup() as group:
            for call_id, name in (("a", "Ada"), ("a", "Ada"), ("b", "slow"), ("c", "nobody")):
                call = tools_pb2.ToolCall(call_id=call_id, name="greet", arguments_json=json.dumps({"name": name}))
                box.begin(call, group)
            box.begin(tools_pb2.ToolCall(call_id="d", name="other", arguments_json="{}"), group)
            await asyncio.sleep(0)
            box.end("b")
            box.end("unknown")
        return answers

    answers = asyncio.run(main())
    assert runs == ["Ada", "slow", "nobody"]
    assert [(answer.call_id, answer.output, answer.error) for answer in answers] == [
        ("a", '{"greeting": "Hello Ada"}', ""),
        ("c", "", "ValueError"),
    ]
