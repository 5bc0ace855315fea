"""Which work is out of date: an interruption raises a session's epoch, and older work of the session is dropped.

A room learns of a new epoch from the first request that carries it. Sessions are forgotten, the longest unheard first,
when there are too many: work of a forgotten session is not dropped, which costs time and nothing else.

Each model runs in a process of its own and knows only the epochs of its own requests: an interruption that sends the
tokenizer nothing leaves the tokenizer's newest epoch where it was. Work that must outlive an interruption, as the
transcription of an earlier turn, is asked for with the session's newest epoch and the earlier turn's number.
"""

from collections import OrderedDict
from typing import Final

from services.shared.errors import CancelledRequestError
from services.shared.triton.context import RequestContext

_SESSIONS: Final = 4096


class EpochGate:
    """The newest epoch of every session that this process has heard of."""

    def __init__(self, *, sessions: int = _SESSIONS) -> None:
        """Args: sessions: how many are remembered."""
        self._newest: OrderedDict[str, int] = OrderedDict()
        self._sessions = sessions

    def admit(self, context: RequestContext) -> None:
        """Learn of a request's epoch.

        Raises:
            CancelledRequestError: a newer one was heard of before.
        """
        if not context.session:
            return
        if self.is_stale(context):
            raise CancelledRequestError(
                f"epoch {context.epoch} is over: the session has reached epoch {self._newest[context.session]}"
            )
        self._newest[context.session] = context.epoch
        self._newest.move_to_end(context.session)
        if len(self._newest) > self._sessions:
            self._newest.popitem(last=False)

    def is_stale(self, context: RequestContext) -> bool:
        """Whether a newer epoch of the session was heard of."""
        return context.epoch < self._newest.get(context.session, context.epoch)
