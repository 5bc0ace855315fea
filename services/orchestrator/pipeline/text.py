"""What the client reads of a reply's text, and where in it each clause stands.

The speech model reads the style tags at the head of a reply, the client does not; both read the reply without the
white space around it, as the offline pipeline does:

    from the chat model   " （高兴1）你好。 " "再见。 "
    to the splitter       "（高兴1）你好。" " 再见。"      white space is held back until something follows it
    to the client               "你好。" " 再见。"
"""

from services.shared.prompt.speech.tags import LONGEST_CARRIED_TAG, leading_tags


class Trimmer:
    """`str.strip` for text that arrives in pieces."""

    def __init__(self) -> None:
        self._held = ""
        self._has_begun = False

    def push(self, text: str) -> str:
        """Take the next piece and give what surely belongs to the text."""
        if not self._has_begun:
            text = text.lstrip()
        if not text:
            return ""
        self._has_begun = True
        text = self._held + text
        kept = text.rstrip()
        self._held = text[len(kept) :]
        return kept


class VisibleText:
    """A reply's text as the client sees it."""

    def __init__(self) -> None:
        self._head: str | None = ""  # what may still turn out to be tags; None once the text has begun
        self._text = ""
        self._cursor = 0

    @property
    def text(self) -> str:
        """All that the client was shown."""
        return self._text

    def push(self, text: str) -> str:
        """Take the next piece of trimmed text and give what of it the client is shown."""
        if self._head is not None:
            self._head += text
            if not self._is_decided():
                return ""
            text = self._begin()
        return self._show(text)

    def finish(self) -> str:
        """The text has ended: give what was held back."""
        return "" if self._head is None else self._show(self._begin())

    def locate(self, clause: str) -> tuple[int, int]:
        """Where a clause stands among the characters shown; clauses are asked for once each, in order."""
        body = clause
        start = self._text.find(body, self._cursor)
        if start < 0:  # the splitter repeats the reply's tags at the head of each clause
            body = clause[len(leading_tags(clause)) :].strip()
            start = self._text.find(body, self._cursor)
        if start < 0:
            start, body = self._cursor, ""
        self._cursor = start + len(body)
        return start, self._cursor

    def _is_decided(self) -> bool:
        """Whether no further character can make another tag of the head, by the rule of the clause splitter."""
        assert self._head is not None
        rest = self._head[len(leading_tags(self._head)) :]
        return bool(rest) and (
            rest[0] not in "（(" or len(rest) > LONGEST_CARRIED_TAG + 1 or any(c in "（(" for c in rest[1:])
        )

    def _begin(self) -> str:
        head, self._head = self._head or "", None
        return head[len(leading_tags(head)) :].lstrip()

    def _show(self, text: str) -> str:
        if not self._text:
            text = text.lstrip()
        self._text += text
        return text
