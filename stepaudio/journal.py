"""What a client has said and may have to say again: the order of its messages, and what a resume needs. Does no IO.

    said     ▒▒▒▒▒▒▒▒▒▒ ▒▒▒▒▒▒▒▒ text ▒▒▒▒▒▒ ╳ connection lost ▒▒▒▒▒▒ (kept until there is a stream again)
    released ┊◄ forgotten ►┊
    resumed            ┊▒▒▒▒▒▒▒▒ text ▒▒▒▒▒▒                  ▒▒▒▒▒▒     from next_input_sample on, in the order said

Audio is kept until `input_released`, at most 30 s of it; a turn in writing until its `reply_started`; options until
`session_updated`; an interrupt until `interrupted`; a tool's result until `tool_call_ended`; the end of input always.
Source: docs/api.md, "Resuming" and "Trying again".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from protos.gen.stepaudio.v1 import audio_pb2, conversation_pb2

KEPT_AUDIO_S: Final = 30
"""The longest utterance: more is never needed for a resume."""
_TURN_MESSAGES: Final = ("text_turn", "say")


@dataclass(slots=True)
class _Entry:
    """One message of the client.

    Attributes:
        message: as it is sent.
        end_sample: position in the user's audio after it.
        turn: the reply it was said into, 0 where there was none.
        number: on the stream it was last sent on, 0 until it is sent.
    """

    message: conversation_pb2.ConverseRequest
    end_sample: int
    turn: int
    number: int = 0


class Journal:
    """The client's side of one session, in order.

    Args:
        sample_rate_hz: of the user's audio.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        self._kept_samples = KEPT_AUDIO_S * sample_rate_hz
        self._entries: list[_Entry] = []
        self._sent_entries = 0
        self._number = 1  # the first message of a stream is `start` or `resume`
        self._end_sample = 0
        self._sent_end_sample = 0
        self._asked_calls: set[str] = set()
        self.session_id = ""
        self._resume_token = ""
        self._received_sequence = 0
        self._ended_turn = 0

    @property
    def unsent_samples(self) -> int:
        """The user's audio that waits to be sent."""
        return self._end_sample - self._sent_end_sample

    def add_audio(self, chunk: audio_pb2.AudioChunk, end_sample: int) -> None:
        """Say a chunk of audio that ends at a position."""
        self._end_sample = end_sample
        self._entries.append(_Entry(conversation_pb2.ConverseRequest(audio=chunk), end_sample, 0))

    def add(self, message: conversation_pb2.ConverseRequest, *, turn: int = 0) -> None:
        """Say anything else.

        Args:
            message: what is said.
            turn: the reply under way, for an interrupt.
        """
        self._entries.append(_Entry(message, self._end_sample, turn))

    def next(self) -> conversation_pb2.ConverseRequest | None:
        """The next message to send on this stream; None when all is sent."""
        if self._sent_entries == len(self._entries):
            return None
        entry = self._entries[self._sent_entries]
        self._number += 1
        entry.number = self._number
        kind = entry.message.WhichOneof("message")
        if kind == "playback_ack" or (kind == "interrupt" and not entry.turn):
            del self._entries[self._sent_entries]
        else:
            self._sent_entries += 1
        if kind == "audio":
            self._sent_end_sample = entry.end_sample
            if self._entries[0].end_sample <= entry.end_sample - self._kept_samples:
                self._forget_audio(entry.end_sample - self._kept_samples)
        return entry.message

    def count_unlisted(self) -> None:
        """Count a message that is sent on this stream and never again."""
        self._number += 1

    def received(self, event: conversation_pb2.ConverseResponse) -> bool:
        """Learn from an event what need not be said again.

        Returns:
            Whether the event is news: a call of a function that is asked for again after a resume is not.
        """
        self._received_sequence = event.sequence
        if event.HasField("turn_ended"):
            self._ended_turn = event.turn
        match event.WhichOneof("event"):
            case "session_started":
                self.session_id = event.session_started.session_id
                self._resume_token = event.session_started.resume_token
                self._rewind(event.session_started.next_input_sample)
            case "input_released":
                self._forget_audio(event.input_released.before_sample)
            case "reply_started":
                self._forget_request(event.reply_started.request_id)
            case "reply_resumed":
                self._forget_request(event.reply_resumed.request_id)
            case "interrupted" | "turn_ended":
                self._forget(lambda entry: entry.message.HasField("interrupt") and entry.turn <= event.turn)
            case "session_updated":
                self._forget_first_update()
            case "tool_call_requested":
                call_id = event.tool_call_requested.call.call_id
                is_news = call_id not in self._asked_calls
                self._asked_calls.add(call_id)
                return is_news
            case "tool_call_ended":
                call_id = event.tool_call_ended.call_id
                self._asked_calls.discard(call_id)
                self._forget(lambda entry: entry.message.tool_result.call_id == call_id)
            case "error":
                number = event.error.message_number
                self._forget(lambda entry: entry.number == number and not entry.message.HasField("audio"))
        return True

    def resume(self, playback: conversation_pb2.PlaybackAck | None) -> conversation_pb2.SessionResume:
        """The first message of a stream that goes on with the session.

        Args:
            playback: what was heard, or will be, of the last reply; None where nothing was.
        """
        return conversation_pb2.SessionResume(
            session_id=self.session_id,
            resume_token=self._resume_token,
            received_sequence=self._received_sequence,
            playback=playback,
            ended_turn=self._ended_turn,
        )

    def _rewind(self, next_input_sample: int) -> None:
        """Begin a stream: all that the server lacks is to be sent, in the order in which it was said."""

        def is_lacking(entry: _Entry) -> bool:
            match entry.message.WhichOneof("message"):
                case "audio":
                    return entry.end_sample > next_input_sample
                case "end_of_turn":
                    return entry.end_sample >= next_input_sample
                case "playback_ack":
                    return False  # the resume told it
            return True

        self._entries = [entry for entry in self._entries if is_lacking(entry)]
        self._sent_entries, self._number = 0, 1
        for entry in self._entries:
            entry.number = 0
        self._sent_end_sample = min(next_input_sample, self._end_sample)

    def _forget_audio(self, before_sample: int) -> None:
        self._forget(
            lambda entry: (
                entry.end_sample <= before_sample and entry.message.WhichOneof("message") in ("audio", "end_of_turn")
            )
        )

    def _forget_request(self, request_id: str) -> None:
        if request_id:
            self._forget(
                lambda entry: any(
                    entry.message.HasField(kind) and getattr(entry.message, kind).request_id == request_id
                    for kind in _TURN_MESSAGES
                )
            )

    def _forget_first_update(self) -> None:
        updates = (entry for entry in self._entries[: self._sent_entries] if entry.message.HasField("session_update"))
        answered = next(updates, None)
        self._forget(lambda entry: entry is answered)

    def _forget(self, is_done: Callable[[_Entry], bool]) -> None:
        """Drop entries that were sent and are done with; what waits to be sent stays."""
        sent = [entry for entry in self._entries[: self._sent_entries] if not is_done(entry)]
        self._entries = sent + self._entries[self._sent_entries :]
        self._sent_entries = len(sent)
