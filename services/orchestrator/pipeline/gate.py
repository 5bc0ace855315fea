"""What holds a reply back that is prepared ahead: it works up to its first audio, and on once it is committed.

prepared   ├ text, first chunks ┤· · · · · · ·├ the rest
                                 wait         commit
"""

import asyncio


class Gate:
    """Open for a reply that is spoken at once.

    Args:
        is_open: nothing is held back.
        ahead_ms: that is made while it is closed.
    """

    def __init__(self, *, is_open: bool, ahead_ms: float) -> None:
        self._is_open = asyncio.Event()
        self._ahead_ms = ahead_ms
        if is_open:
            self._is_open.set()

    @property
    def is_open(self) -> bool:
        """Whether the reply is spoken."""
        return self._is_open.is_set()

    def open(self) -> None:
        """From now on nothing is held back."""
        self._is_open.set()

    async def after(self, made_ms: float) -> None:
        """Wait for the commit, if so much was made that the rest can wait for it."""
        if made_ms >= self._ahead_ms:
            await self._is_open.wait()
