"""Page tokens."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.ingress.paging import PageTokens
from services.shared.errors import InvalidPageTokenError
from tests.fakes.store import WallClock

pytestmark = pytest.mark.unit

SCOPE = ("turns", "acme", "s")


def test_a_token_brings_its_cursor_back_on_any_replica_for_an_hour() -> None:
    clock = WallClock()
    token = PageTokens(b"key", clock).issue(SCOPE, "50:voice-é")
    clock.pass_s(3600)
    assert PageTokens(b"key", clock).read(SCOPE, token) == "50:voice-é"
    clock.pass_s(2)
    with pytest.raises(InvalidPageTokenError, match="older than an hour"):
        PageTokens(b"key", clock).read(SCOPE, token)


@pytest.mark.parametrize("scope", [("turns", "acme", "t"), ("turns", "acm", "es"), ("voices", "acme", "s")])
def test_a_token_of_another_list_is_refused(scope: tuple[str, ...]) -> None:
    pages = PageTokens(b"key", WallClock())
    with pytest.raises(InvalidPageTokenError):
        pages.read(scope, pages.issue(SCOPE, "1"))


def test_a_token_of_another_key_or_with_a_changed_byte_is_refused() -> None:
    clock = WallClock()
    token = PageTokens(b"key", clock).issue(SCOPE, "1")
    raw = bytearray(base64.urlsafe_b64decode(token))
    raw[-1] ^= 1
    for pages, changed in (
        (PageTokens(b"other", clock), token),
        (PageTokens(b"key", clock), base64.urlsafe_b64encode(raw).decode()),
    ):
        with pytest.raises(InvalidPageTokenError):
            pages.read(SCOPE, changed)


@given(st.text(max_size=60))
def test_any_other_text_is_refused(token: str) -> None:
    with pytest.raises(InvalidPageTokenError):
        PageTokens(b"key", WallClock()).read(SCOPE, token)
