"""Calls of functions as the model wrote them, held to the functions that it may call and to their schemas.

    written ─> which function ─> words to what the schema says ─> the schema ─> ToolCallMade, perhaps with a problem

A schema is a caller's, and calls are held to it on the loop that carries the audio: so a check takes a bounded number
of steps, follows no reference out of the schema and runs no regular expression. `pattern` and `patternProperties` are
for the model to read, and what depends on them is not checked. What is within the bounds but cannot be checked is a
call with a problem.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from jsonschema import Draft202012Validator, ValidationError, validators
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

from services.orchestrator.conversation.options import Tool
from services.orchestrator.ports.rooms import FunctionCall

MAX_STEPS: Final = 2_000
"""Of one check: milliseconds."""
MAX_PARTS: Final = 1_000
"""Objects and lists of a schema: whether they are JSON Schema takes a fifth of a millisecond each."""
_NOT_RUN: Final = ("pattern", "patternProperties", "unevaluatedProperties", "$dynamicRef")
"""The third would run the second's regular expressions, of its own schema and of those beside it."""
_KNOWN_SCHEMAS: Final = 256
_TRUTHS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

Json = Any  # whatever JSON holds


class TooManyStepsError(Exception):
    """A check was given up."""


@lru_cache(_KNOWN_SCHEMAS)
def schema_problem(parameters_json: str) -> str:
    """What is wrong with the schema of a function's parameters; empty where nothing is.

    For a schema that is not known yet this takes too long for the loop that carries the audio: ask in a thread first.
    """
    if not parameters_json:
        return ""
    try:
        schema = json.loads(parameters_json)
        if not isinstance(schema, dict) or schema.get("type", "object") != "object":
            return "it is no JSON Schema of an object"
        if _parts(schema) > MAX_PARTS:
            return f"it has more than {MAX_PARTS} objects and lists"
        if any(not reference.startswith("#") for reference in _references(schema)):
            return "it refers to another document"
        Draft202012Validator.check_schema(schema, format_checker=None)  # formats are regular expressions to compile
        for _ in _Check(parameters_json).errors({}):
            pass  # that nothing is too little is no fault; that the check ends is what counts
    except SchemaError as error:
        return f"it is no JSON Schema: {error.message[:200]}"
    except ValueError:
        return "it is not JSON"
    except (RecursionError, Unresolvable):
        return "it refers to itself without end, or to what it has not"
    except TooManyStepsError:
        return "it takes too long to check"
    return ""


def checked_call(written: FunctionCall, tools: Sequence[Tool]) -> tuple[str, str]:
    """Hold a call to the functions that may be called.

    Args:
        written: by the model.
        tools: the functions.

    Returns:
        The arguments as a JSON object, and what is wrong with the call, for the model; empty where nothing is.
    """
    if written.problem:
        return written.arguments_json, written.problem
    tool = next((tool for tool in tools if tool.name == written.name), None)
    if tool is None:
        return written.arguments_json, f"there is no function {written.name!r}"
    arguments = json.loads(written.arguments_json)
    if not tool.parameters_json:
        return written.arguments_json, f"{tool.name} takes no arguments" if arguments else ""
    check = _check(tool.parameters_json)
    try:
        if written.is_plain:
            arguments = _typed(arguments, check.schema)
        problem = next(check.errors(arguments), "")
    except (TooManyStepsError, RecursionError, Unresolvable):
        problem = "the arguments cannot be checked"
    return json.dumps(arguments, ensure_ascii=False), problem


class _Check:
    """The check of one schema."""

    def __init__(self, parameters_json: str) -> None:
        self.schema: dict[str, Json] = json.loads(parameters_json)
        self._steps = 0
        own = {"additionalProperties": _no_other_properties, "uniqueItems": _all_different}
        keywords = {
            name: self._counted(own.get(name, keyword))
            for name, keyword in Draft202012Validator.VALIDATORS.items()
            if name not in _NOT_RUN
        }
        kind = validators.create(
            meta_schema=Draft202012Validator.META_SCHEMA,
            validators=keywords,
            type_checker=Draft202012Validator.TYPE_CHECKER,
            id_of=lambda schema: "",
        )
        self._validator = kind(self.schema, registry=Registry())  # its own registry would fetch what is referred to

    def errors(self, arguments: Mapping[str, Json]) -> Iterator[str]:
        """What is wrong with arguments."""
        self._steps = 0
        for error in self._validator.iter_errors(arguments):
            where = ".".join(str(part) for part in error.absolute_path)
            yield f"{where}: {error.message[:200]}" if where else error.message[:200]

    def _counted(self, keyword: Callable[..., Json]) -> Callable[..., Iterator[ValidationError]]:
        def counted(validator: Json, value: Json, instance: Json, schema: Json) -> Iterator[ValidationError]:
            self._steps += 1 + (len(value) if isinstance(value, list | dict) else 0)
            if self._steps > MAX_STEPS:
                raise TooManyStepsError
            yield from keyword(validator, value, instance, schema) or ()

        return counted


def _no_other_properties(validator: Json, value: Json, instance: Json, schema: Json) -> Iterator[ValidationError]:
    """See `additionalProperties`; where patterns say which other names there may be, any may be."""
    if "patternProperties" not in schema:
        yield from Draft202012Validator.VALIDATORS["additionalProperties"](validator, value, instance, schema) or ()


def _all_different(validator: Json, value: Json, instance: Json, schema: Json) -> Iterator[ValidationError]:
    """See `uniqueItems`, in the time that writing the items takes: the library compares each with each."""
    if value and isinstance(instance, list):
        same = json.loads(json.dumps(instance), parse_float=_as_written_whole)
        if len({json.dumps(item, sort_keys=True) for item in same}) < len(instance):
            yield ValidationError("its items are not all different")


def _as_written_whole(number: str) -> float | int:
    """1.0 and 1 are the same number of JSON."""
    value = float(number)
    return int(value) if value.is_integer() else value


@lru_cache(_KNOWN_SCHEMAS)
def _check(parameters_json: str) -> _Check:
    return _Check(parameters_json)


def _parts(schema: Json) -> int:
    """Objects and lists, at any depth."""
    inside = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    return isinstance(schema, dict | list) + sum(map(_parts, inside))


def _references(schema: Json) -> Iterator[str]:
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name in ("$ref", "$dynamicRef", "$schema", "$id") and isinstance(value, str):
                yield value if name.endswith("ef") else "#"
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _typed(arguments: dict[str, str], schema: Mapping[str, Json]) -> dict[str, Json]:
    """Words as the numbers and truths that a schema wants; what is none of them stays and is refused by its type."""
    properties = schema.get("properties", {})
    typed: dict[str, Json] = {}
    for name, text in arguments.items():
        wanted = properties.get(name, {}) if isinstance(properties, dict) else {}
        typed[name] = _value(text, wanted.get("type") if isinstance(wanted, dict) else None)
    return typed


def _value(text: str, wanted: Json) -> Json:
    try:
        if wanted == "integer":
            return int(text)
        if wanted == "number":
            number = float(text)
            return number if math.isfinite(number) else text  # JSON has no other
    except ValueError:
        return text
    return _TRUTHS.get(text.lower(), text) if wanted == "boolean" else text
