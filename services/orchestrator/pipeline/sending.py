"""What a session's client is sent: by its newest stream, numbered without gaps over all of them.

    emit ──> the newest stream ──> numbered as it is sent
      └────> ends of turns, kept ──> told again to the next stream, if the client does not have them

While there is no stream nothing is queued: of what a client misses only the ends of turns are told again.
"""

from collections import deque
from collections.abc import Callable

from services.orchestrator.conversation.outputs import Output, TurnEnded
from services.orchestrator.pipeline.session import Emitted, Stream, StreamOpened
from services.shared.errors import SlowConsumerError, StepAudioError


class Sending:
    """The way to the client of one session.

    Args:
        age_s: of the session.
        repeatable_turns: whose ends are kept for the next stream.
        too_slow: told that the client does not take what it is sent; it leaves the stream.

    Attributes:
        stream: the newest; None while there is no client.
    """

    def __init__(
        self, *, age_s: Callable[[], float], repeatable_turns: int, too_slow: Callable[[StepAudioError], None]
    ) -> None:
        self.stream: Stream | None = None
        self._age_s = age_s
        self._too_slow = too_slow
        self._sequence = 0
        self._turn_ends: deque[Emitted] = deque(maxlen=repeatable_turns)

    @property
    def sequence(self) -> int:
        """Number of the last event that was given out."""
        return self._sequence if self.stream is None else self.stream.sequence

    def emit(self, turn: int, epoch: int, output: Output | StreamOpened, message_number: int = 0) -> None:
        """Queue an event for the client, if there is one."""
        emitted = Emitted(turn, epoch, max(int(self._age_s() * 1000), 0), output, message_number)
        if isinstance(output, TurnEnded):
            self._turn_ends.append(emitted)
        if self.stream is not None:
            try:
                self.stream.send(emitted)
            except SlowConsumerError as error:
                self._too_slow(error)

    def open(self, epoch: int, opened: StreamOpened, *, ended_turn: int) -> None:
        """Tell a new stream that it is open, and repeat what it missed; what comes in its epoch is behind that."""
        self.emit(0, epoch, opened)
        missed = [end for end in self._turn_ends if end.turn > ended_turn]
        self._turn_ends.clear()
        for end in missed:
            self.emit(end.turn, epoch, end.output)

    def remember(self, turn: int, epoch: int, ended: TurnEnded) -> None:
        """Another replica kept this turn, and the client that comes did not hear of it."""
        self._turn_ends.append(Emitted(turn, epoch, 0, ended))

    def leave(self, error: StepAudioError | None, *, with_unread: bool) -> bool:
        """End the stream, after what is unread or at once; returns whether there was one."""
        if self.stream is None:
            return False
        stream, self.stream = self.stream, None
        self._sequence = stream.sequence
        stream.finish(error, with_unread=with_unread)
        return True
