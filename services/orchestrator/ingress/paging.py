"""Page tokens: where a list goes on, signed, so that any replica takes what another one gave, and nothing else.

    token = base64url( mac [16] | issued, s since 1970 [8] | cursor )     mac = HMAC-SHA256 over scope, issued, cursor

The scope is what the list is of; it is not in the token, but a token of another list does not verify.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from typing import Final

from services.shared.errors import InvalidPageTokenError

VALID_S: Final = 3600
_MAC_BYTES: Final = 16
_TIME_BYTES: Final = 8
_LONGEST_TOKEN: Final = 512


class PageTokens:
    """Gives and reads page tokens.

    Args:
        key: of the signature, the same on all replicas.
        wall_clock: seconds since 1970.
    """

    def __init__(self, key: bytes, wall_clock: Callable[[], float]) -> None:
        self._key = key
        self._wall_clock = wall_clock

    def issue(self, scope: tuple[str, ...], cursor: str) -> str:
        """A token with which this list goes on behind the cursor, for an hour."""
        body = int(self._wall_clock()).to_bytes(_TIME_BYTES, "big") + cursor.encode()
        return base64.urlsafe_b64encode(self._mac(scope, body) + body).decode()

    def read(self, scope: tuple[str, ...], token: str) -> str:
        """The cursor of a token.

        Raises:
            InvalidPageTokenError: it was not given for this list, or is older than an hour.
        """
        mac, body = _split(token)
        if not hmac.compare_digest(mac, self._mac(scope, body)):
            raise _refused("was not given for this list")
        issued_s = int.from_bytes(body[:_TIME_BYTES], "big")
        if self._wall_clock() - issued_s > VALID_S:
            raise _refused("is older than an hour")
        return body[_TIME_BYTES:].decode()

    def _mac(self, scope: tuple[str, ...], body: bytes) -> bytes:
        said = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in scope) + body
        return hmac.digest(self._key, said, hashlib.sha256)[:_MAC_BYTES]


def _split(token: str) -> tuple[bytes, bytes]:
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refused("is no token") from error
    if len(token) > _LONGEST_TOKEN or len(raw) < _MAC_BYTES + _TIME_BYTES:
        raise _refused("is no token")
    return raw[:_MAC_BYTES], raw[_MAC_BYTES:]


def _refused(why: str) -> InvalidPageTokenError:
    return InvalidPageTokenError(f"the page token {why}; list from the beginning", field="page_token")
