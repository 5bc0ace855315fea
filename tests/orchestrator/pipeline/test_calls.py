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


@pytest.mark.parametrize("keyword", ["additionalProperties", "unevaluatedProperties"])
def test_a_pattern_of_names_is_not_run_by_what_depends_on_it(keyword: str) -> None:
    schema = {"type": "object", "patternProperties": {"^(a+)+$": {}}, keyword: False}
    assert check(schema, {"a" * 60 + "!": 1})[1] == ""


def test_a_pattern_that_is_no_regular_expression_is_not_compiled() -> None:
    assert schema_problem(json.dumps(of(a={"pattern": "a{99999999999}"}))) == ""


def test_names_beyond_the_schema_are_refused_where_it_says_so() -> None:
    assert "'b' was unexpected" in check({**of(a={}), "additionalProperties": False}, {"a": 1, "b": 2})[1]


@pytest.mark.parametrize(
    ("items", "differ"),
    [([1, 2, "1", True], True), ([1, 1.0], False), ([{"a": 1, "b": 2}, 0, {"b": 2, "a": 1}], False), ([], True)],
)
def test_items_that_must_differ_are_compared_as_json_is(items: list[object], differ: bool) -> None:
    assert (check(of(a={"uniqueItems": True}), {"a": items})[1] == "") is differ


def test_many_items_of_every_kind_are_compared_without_comparing_each_with_each() -> None:
    mixed = [item for number in range(20_000) for item in (number, {"": number})]
    assert check(of(a={"uniqueItems": True}), {"a": mixed})[1] == ""


@pytest.mark.parametrize("word", ["nan", "inf", "-Infinity", "1e999"])
def test_a_number_that_json_has_not_stays_a_word(word: str) -> None:
    assert check(of(x={"type": "number"}), {"x": word}, is_plain=True)[1] == f"x: {word!r} is not of type 'number'"


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


def test_a_schema_of_too_many_parts_is_refused_before_it_is_looked_into() -> None:
    most: dict[str, list[object]] = {"allOf": [{}] * 998}
    assert schema_problem(json.dumps(most)) == ""
    assert schema_problem(json.dumps({"allOf": [{}] * 999})) == "it has more than 1000 objects and lists"


def test_a_function_that_takes_nothing_is_given_nothing() -> None:
    tool = Tool("f", "A function.")
    assert checked_call(FunctionCall("f", "{}"), [tool])[1] == ""
    assert checked_call(FunctionCall("f", '{"a": 1}'), [tool])[1] == "f takes no arguments"
    assert checked_call(FunctionCall("g", "{}"), [tool])[1] == "there is no function 'g'"
    assert checked_call(FunctionCall("", "{}", "the call is not JSON"), [tool])[1] == "the call is not JSON"
