"""The schema and the reference of values are made of values.yaml, and are as it says."""

import json

import pytest

from helm.values_reference import make_readme, make_schema, read_values, written
from tests.helm.sets import CHART

pytestmark = pytest.mark.unit

TEXT = """
# All of it.
part:
  # How many, in pieces; two, as one is none.
  # @ int 1..9
  count: 2
  # Which kind.
  # @ enum big|small
  kind: big
# As part, for the other side.
# @ like part
other: {count: 3}
"""


@pytest.mark.parametrize("name", ["values.schema.json", "README.md"])
def test_the_generated_files_are_what_values_yaml_says(name: str) -> None:
    text = written((CHART / "values.yaml").read_text(encoding="utf-8"))[name]
    assert (CHART / name).read_text(encoding="utf-8") == text, "run `python -m helm.values_reference`"


def test_a_comment_becomes_type_bounds_and_description() -> None:
    schema = make_schema(list(read_values(TEXT)))
    part = schema["properties"]["part"]
    assert part["additionalProperties"] is False
    assert part["properties"]["count"] == {
        "description": "How many, in pieces; two, as one is none.",
        "type": "integer",
        "minimum": 1,
        "maximum": 9,
    }
    assert schema["properties"]["other"]["properties"] == part["properties"]


def test_the_reference_names_each_value_with_its_default() -> None:
    page = make_readme(list(read_values(TEXT)))
    assert "| `part.count` | int 1..9 | `2` | How many, in pieces; two, as one is none. |" in page


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a: 1\n", "a has no type"), ("# Sentence.\na: 1\n", "a has no type"), ("# @ bool\na: true\n", "no sentence")],
)
def test_a_value_without_sentence_or_type_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        list(read_values(text))


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match="is no type"):
        make_schema(list(read_values("# What.\n# @ colour\na: red\n")))


def test_every_default_is_of_its_own_type() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="needs stepaudio[k8s]")
    values = list(read_values((CHART / "values.yaml").read_text(encoding="utf-8")))
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    for value in values:
        section = schema
        for key in value.path.split("."):
            section = section["properties"][key]
        if value.kind:
            jsonschema.validate(value.default, section)
