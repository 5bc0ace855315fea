"""The table of errors in the API's document, made from the comments of errors.proto, which are its only source."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_BEGIN: Final = "<!-- errors.proto: begin -->\n"
_END: Final = "<!-- errors.proto: end -->\n"
_ENTRY: Final = re.compile(
    r"^  // (?P<code>[A-Z_]+)(?P<retry>, retry)?\. (?P<meaning>.+)\n  ERROR_REASON_(?P<reason>\w+) = \d+;", re.MULTILINE
)
_VALUE: Final = re.compile(r"^  ERROR_REASON_(?!UNSPECIFIED)\w+ = \d+;", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class DocumentedError:
    """A reason of the API.

    Attributes:
        reason: as in `google.rpc.ErrorInfo.reason`.
        code: name of the gRPC status code.
        retryable: whether trying the same again can help.
        meaning: when it is given.
    """

    reason: str
    code: str
    retryable: bool
    meaning: str


def parse_errors(proto: str) -> tuple[DocumentedError, ...]:
    """Read the reasons out of the text of errors.proto, in its order.

    Raises:
        ValueError: a value's comment does not begin with a status code.
    """
    errors = tuple(
        DocumentedError(entry["reason"], entry["code"], entry["retry"] is not None, entry["meaning"])
        for entry in _ENTRY.finditer(proto)
    )
    if len(errors) != len(_VALUE.findall(proto)):
        raise ValueError("every value of ErrorReason needs a comment of one line, `CODE[, retry]. When it is given.`")
    return errors


def with_table(document: str, errors: Sequence[DocumentedError]) -> str:
    """Return a document with the table between its two marks replaced.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = document.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the document needs the marks {_BEGIN.strip()} and {_END.strip()}")
    rows = [f"| `{e.reason}` | {e.code} | {'yes' if e.retryable else ''} | {e.meaning} |\n" for e in errors]
    table = "\n| reason | status | retry | when |\n|---|---|---|---|\n" + "".join(rows) + "\n"
    return before + begin + table + end + after
