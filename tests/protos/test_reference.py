"""The reasons of errors: one list for the .proto file, its document and the house's error tree."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from protos.gen.stepaudio.v1 import errors_pb2
from protos.reference import DocumentedError, parse_errors, with_table
from protos.toolchain import SOURCE
from services.shared import errors as house

pytestmark = pytest.mark.unit

PROTO_FILES = sorted((SOURCE / "stepaudio" / "v1").glob("*.proto"))
DOCUMENTED = {
    error.reason: error
    for error in parse_errors((SOURCE / "stepaudio" / "v1" / "errors.proto").read_text(encoding="utf-8"))
}
MARKS = "a\n<!-- errors.proto: begin -->\nold\n<!-- errors.proto: end -->\nb\n"


def error_classes(root: type[house.StepAudioError] = house.StepAudioError) -> Iterator[type[house.StepAudioError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == house.__name__:
            yield from error_classes(child)


@pytest.mark.parametrize("error", list(error_classes()), ids=lambda error: error.__name__)
def test_every_error_of_the_house_has_a_reason_with_its_status_and_retry(error: type[house.StepAudioError]) -> None:
    documented = DOCUMENTED[error.reason]
    assert (documented.code, documented.retryable) == (error.grpc_code, error.retryable)


def test_every_reason_is_documented() -> None:
    values = {value.name.removeprefix("ERROR_REASON_") for value in errors_pb2.ErrorReason.DESCRIPTOR.values}
    assert set(DOCUMENTED) == values - {"UNSPECIFIED"}


@pytest.mark.parametrize("path", [path for path in PROTO_FILES if path.stem != "errors"], ids=lambda path: path.stem)
def test_a_call_names_only_reasons_that_exist(path: Path) -> None:
    text = re.sub(r"\n *// ?", " ", path.read_text(encoding="utf-8"))
    lists = re.findall(r"(?:Errors[^:]*|is an `error` event): ([^.]*?)(?:;| and those of every call)", text)
    named = {reason for listed in lists for reason in re.findall(r"\b[A-Z][A-Z_]+\b", listed)}
    assert named <= set(DOCUMENTED)


def test_a_value_without_a_status_is_refused() -> None:
    with pytest.raises(ValueError, match="CODE"):
        parse_errors("  // Something went wrong.\n  ERROR_REASON_ODD = 1;\n")


def test_the_table_replaces_what_stands_between_the_marks() -> None:
    error = DocumentedError(reason="ODD", code="INTERNAL", retryable=True, meaning="It is odd.")
    table = with_table(MARKS, [error])
    assert "| `ODD` | INTERNAL | yes | It is odd. |\n" in table
    assert "old" not in table
    assert with_table(table, [error]) == table


def test_a_document_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="marks"):
        with_table("no marks\n", [])
