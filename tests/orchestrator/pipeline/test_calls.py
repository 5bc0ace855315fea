"""Calls are held to their functions' schemas, in a bounded number of steps, without a word to anybody else."""

import json

import pytest

from services.orchestrator.conversation.options import Tool
from services.orchestrator.pipeline.calls import checked_call, schema_problem
from services.orchestrator.ports.rooms import FunctionCall

pytestmark = pytest.mark.unit


def check(schema: object, arguments: object, *, is_plain: bool = False) -> tuple[object, str]:
    tool = Tool("f", "A function.", json.dumps(schema))
    text, problem = checked_call(FunctionCall("f", json.dumps(arguments), "", is_plain), [tool])
    return json.loads(text), problem


def of(**properties: object) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def test_arguments_that_fit_have_no_problem_and_those_that_do_not_say_where() -> None:
    schema = of(place={"type": "object", "properties": {"name": {"type": "string"}}})
    assert check(schema, {"place": {"name": "Rome"}}) == ({"place": {"name": "Rome"}}, "")
    assert check(schema, {"place": {"name": 5}})[1] == "place.name: 5 is not of type 'string'"
    assert check(schema, {})[1] == "'place' is a required property"


def test_words_become_what_the_schema_says() -> None:
    schema = of(n={"type": "integer"}, x={"type": "number"}, on={"type": "boolean"}, word={"type": "string"})
    words = {"n": "5", "x": "0.5", "on": "off", "word": "7"}
    assert check(schema, words, is_plain=True) == ({"n": 5, "x": 0.5, "on": False, "word": "7"}, "")
    assert check(schema, {**words, "n": "ten"}, is_plain=True)[1] == "n: 'ten' is not of type 'integer'"
    assert check(schema, words)[1], "JSON says itself what its values are"


def test_a_reference_inside_the_schema_is_followed() -> None:
    schema = {**of(a={"$ref": "#/$defs/word"}), "$defs": {"word": {"type": "string"}}}
    assert check(schema, {"a": "x"})[1] == ""
    assert check(schema, {"a": 1})[1]


def test_a_pattern_is_not_run() -> None:
    assert check(of(a={"pattern": "(a+)+$"}), {"a": "a" * 40 + "!"}) == ({"a": "a" * 40 + "!"}, "")


@pytest.mark.parametrize(
    "schema",
    [
        of(a={"items": {"allOf": [{}] * 500}}),
        of(a={"items": {"anyOf": [{"const": number} for number in range(500)]}}),
        of(a={"uniqueItems": True, "items": {"enum": list(range(1000))}}),
    ],
)
def test_a_check_that_takes_too_many_steps_is_given_up(schema: dict[str, object]) -> None:
    assert schema_problem(json.dumps(schema)) == ""
    assert check(schema, {"a": [-1] * 1000})[1]


def test_a_function_that_takes_nothing_is_given_nothing() -> None:
    tool = Tool("f", "A function.")
    assert checked_call(FunctionCall("f", "{}"), [tool])[1] == ""
    assert checked_call(FunctionCall("f", '{"a": 1}'), [tool])[1] == "f takes no arguments"
    assert checked_call(FunctionCall("g", "{}"), [tool])[1] == "there is no function 'g'"
    assert checked_call(FunctionCall("", "{}", "the call is not JSON"), [tool])[1] == "the call is not JSON"
