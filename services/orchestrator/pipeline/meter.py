"""What a reply took: each room's requests and times, and when the first results came."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.orchestrator.conversation.record import Degradation, FirstAudioMarks, ReplyWork, RoomName, RoomWork
from services.orchestrator.pipeline.observer import ReplyTrace


@dataclass(slots=True)
class _RoomMeter:
    requests: int = 0
    total_s: float = 0.0
    begun_s: float | None = None
    first_output_s: float | None = None


class Request:
    """One request to a room, while it runs."""

    def __init__(self, room: _RoomMeter, clock: Callable[[], float]) -> None:
        self._room = room
        self._clock = clock

    def output(self) -> None:
        """The room gave something."""
        if self._room.first_output_s is None:
            self._room.first_output_s = self._clock()


class Meter:
    """Measures one reply.

    Args:
        clock: monotonic seconds.
        trace: told each request.

    Attributes:
        prompt_tokens, text_tokens, speech_tokens: counted so far.
    """

    def __init__(self, clock: Callable[[], float], trace: ReplyTrace) -> None:
        self.prompt_tokens = 0
        self.text_tokens = 0
        self.speech_tokens = 0
        self._clock = clock
        self._trace = trace
        self._rooms: dict[RoomName, _RoomMeter] = {}
        self._heard: RoomWork | None = None
        self._marks = [clock()]
        self._degradations: list[Degradation] = []

    @contextmanager
    def request(self, room: RoomName) -> Iterator[Request]:
        """Measure one request from asking to the end of its answer."""
        meter = self._rooms.setdefault(room, _RoomMeter())
        begun_s = self._clock()
        meter.requests += 1
        if meter.begun_s is None:
            meter.begun_s = begun_s
        try:
            yield Request(meter, self._clock)
        finally:
            ended_s = self._clock()
            meter.total_s += ended_s - begun_s
            self._trace.stage(room, begun_s, ended_s)

    def heard(self, work: RoomWork, begun_s: float, ended_s: float) -> None:
        """Count the tokenizer's work on the utterance that is answered; its last tokens were asked for from … to."""
        self._heard = work
        self._trace.stage(RoomName.TOKENIZER, begun_s, ended_s)

    def mark(self, place: int) -> None:
        """A stage had its first result: 1 tokens, 2 clause, 3 speech tokens, 4 audio; later ones are not counted."""
        if len(self._marks) == place:
            self._marks.append(self._clock())

    def degraded(self, degradation: Degradation) -> None:
        """Quality was lowered in this way."""
        if degradation not in self._degradations:
            self._degradations.append(degradation)

    def marks(self) -> FirstAudioMarks:
        """All marks, once the first audio is there."""
        asked_s, tokens_s, clause_s, speech_tokens_s, audio_s = self._marks
        return FirstAudioMarks(asked_s, tokens_s, clause_s, speech_tokens_s, audio_s)

    def work(self) -> ReplyWork:
        """What the reply took so far."""
        heard = (self._heard,) if self._heard else ()
        rooms = tuple(
            RoomWork(
                room, meter.requests, meter.total_s, max((meter.first_output_s or 0.0) - (meter.begun_s or 0.0), 0.0)
            )
            for room, meter in self._rooms.items()
        )
        degradations = tuple(self._degradations)
        return ReplyWork(heard + rooms, self.prompt_tokens, self.text_tokens, self.speech_tokens, degradations)
