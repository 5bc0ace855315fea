"""What clients may send, message by message: the ranges of the .proto files that are no options.

Each check gives the value back or raises the error of the API that names the field, its value and the limit.
"""

from typing import Final, TypeVar

from services.shared.errors import InvalidInputError, StepAudioError, TextError, TextTooLongError
from services.shared.prompt.speech.tags import speakable

LONGEST_TEXT: Final = 16_384
LONGEST_SAY: Final = 4096
LONGEST_REQUEST_ID: Final = 64
LONGEST_SESSION_ID: Final = 64
MAX_LABELS: Final = 16
LONGEST_LABEL_KEY: Final = 64
LONGEST_LABEL: Final = 256
LARGEST_PAGE: Final = 100
USUAL_PAGE: Final = 50

Refusal = TypeVar("Refusal", bound=StepAudioError)


def refusal(kind: type[Refusal], field: str, value: str, limit: str) -> Refusal:
    """An error of this kind that says which field has which value, and what it takes."""
    return kind(f"{field} is {value}; it takes {limit}", field=field, value=value, limit=limit)


def checked_text(text: str, field: str, longest: int = LONGEST_TEXT) -> str:
    """Words to read or to write.

    Raises:
        TextError: there are none.
        TextTooLongError: there are too many.
    """
    if not text:
        raise refusal(TextError, field, "empty", f"1 to {longest} characters")
    if len(text) > longest:
        raise refusal(TextTooLongError, field, f"{len(text)} characters", f"1 to {longest} characters")
    return text


def checked_words(text: str, field: str, longest: int = LONGEST_SAY) -> str:
    """Words to be spoken to the letter in a conversation. Raises as `checked_text`, and TextError for no sound."""
    checked_text(text, field, longest)
    if not speakable(text):
        raise refusal(TextError, field, "without any letter or digit", "something that can be spoken")
    return text


def checked_request_id(request_id: str, field: str) -> str:
    """A client's key of idempotency. Raises InvalidInputError."""
    if not 1 <= len(request_id) <= LONGEST_REQUEST_ID:
        limit = f"1 to {LONGEST_REQUEST_ID} characters"
        raise refusal(InvalidInputError, field, f"{len(request_id)} characters", limit)
    return request_id


def checked_count(value: int, field: str) -> int:
    """A number that counts something. Raises InvalidInputError below 0."""
    if value < 0:
        raise refusal(InvalidInputError, field, str(value), "0 or more")
    return value


def checked_session_id(session_id: str, field: str = "session_id") -> str:
    """The name of a session. Raises InvalidInputError."""
    if not 1 <= len(session_id) <= LONGEST_SESSION_ID:
        limit = f"1 to {LONGEST_SESSION_ID} characters"
        raise refusal(InvalidInputError, field, f"{len(session_id)} characters", limit)
    return session_id


def checked_labels(labels: dict[str, str]) -> dict[str, str]:
    """The caller's own labels. Raises InvalidInputError."""
    if len(labels) > MAX_LABELS:
        raise refusal(InvalidInputError, "labels", f"{len(labels)} labels", f"at most {MAX_LABELS}")
    for key, value in labels.items():
        if not 1 <= len(key) <= LONGEST_LABEL_KEY:
            limit = f"keys of 1 to {LONGEST_LABEL_KEY} characters"
            raise refusal(InvalidInputError, "labels", f"a key of {len(key)} characters", limit)
        if len(value) > LONGEST_LABEL:
            limit = f"at most {LONGEST_LABEL} characters"
            raise refusal(InvalidInputError, f"labels[{key}]", f"{len(value)} characters", limit)
    return labels


def page_size(asked: int) -> int:
    """Entries of a page: none asked for is 50, more than 100 is 100. Raises InvalidInputError below 0."""
    return min(checked_count(asked, "page_size") or USUAL_PAGE, LARGEST_PAGE)
