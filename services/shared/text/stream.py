"""Ids to text while they are being generated: whole characters only, and none lost.

A character outside the vocabulary arrives as several byte pieces, one id each. The bytes of an unfinished character
wait here; whatever is no UTF-8 becomes U+FFFD, and so does a character that the reply never finishes.

    ids     ▁Caf | 0xC3 | 0xA9 | !
    push    "Caf"   ""    "é"    "!"
"""

import codecs
from collections.abc import Callable, Iterable


class StreamDecoder:
    """Turns the ids of one text into its characters, as they come.

    The text's own first space is left out: encoding put it there (the "▁" before the first word).
    """

    def __init__(self, bytes_of: Callable[[int], bytes]) -> None:
        """Args: bytes_of: the UTF-8 bytes an id stands for, no bytes for a control piece."""
        self._bytes_of = bytes_of
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = True

    def push(self, ids: Iterable[int]) -> str:
        """Take the next ids; return the characters that are complete with them, perhaps none.

        Raises:
            UnknownTokenError: an id is outside the vocabulary.
        """
        return self._without_first_space(self._utf8.decode(b"".join(map(self._bytes_of, ids))))

    def finish(self) -> str:
        """Return what still waits, as U+FFFD, and start anew."""
        text = self._without_first_space(self._utf8.decode(b"", final=True))
        self._utf8.reset()
        self._at_start = True
        return text

    def _without_first_space(self, text: str) -> str:
        if not (self._at_start and text):
            return text
        self._at_start = False
        return text.removeprefix(" ")
