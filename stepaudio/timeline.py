"""Events of a conversation as lines for people: time, event, turn, epoch, and what matters of it.

    time s  event             turn  epoch  detail
     0.000  session_started      ·      1  session 5e1f…
     2.410  speech_stopped       1      1  at 2.37 s

Of a reply's text and audio only the first piece is told when it comes; `reply_ended` and `turn_ended` have the sum.
"""

from typing import Final

from google.protobuf.message import Message

from protos.gen.stepaudio.v1 import conversation_pb2, events_pb2, metrics_pb2, session_pb2
from stepaudio.errors import ApiError

HEADER: Final = "  time s  event                turn  epoch  detail"
_TOLD_ONCE: Final = ("reply_text", "reply_audio")


class Timeline:
    """Turns events into lines, in order."""

    def __init__(self) -> None:
        self._input_hz = 1
        self._reply_hz = 1
        self._told: set[tuple[str, int, int]] = set()

    def line(self, event: conversation_pb2.ConverseResponse) -> str | None:
        """The line of an event; None for what is not told."""
        kind = event.WhichOneof("event")
        if kind is None:
            return None
        if kind in _TOLD_ONCE:
            key = (kind, event.turn, event.epoch)
            if key in self._told:
                return None
            self._told.add(key)
        turn = str(event.turn) if event.turn else "·"
        detail = self._detail(getattr(event, kind))
        return f"{event.elapsed_ms / 1000:8.3f}  {kind:19}  {turn:>4}  {event.epoch:>5}  {detail}".rstrip()

    def _detail(self, said: Message) -> str:  # noqa: C901 - one case for each event
        match said:
            case events_pb2.SessionStarted():
                self._input_hz = said.input_audio.sample_rate_hz or 1
                self._reply_hz = said.reply_audio.sample_rate_hz or 1
                again = f", resumed from sample {said.next_input_sample}" if said.resumed else ""
                return f"session {said.session_id}{again}"
            case events_pb2.SpeechStarted():
                return f"at {said.first_sample / self._input_hz:.2f} s"
            case events_pb2.SpeechStopped():
                return f"at {said.end_sample / self._input_hz:.2f} s"
            case events_pb2.InputReleased():
                return f"before {said.before_sample / self._input_hz:.2f} s"
            case events_pb2.Transcript():
                return f"{'' if said.is_final else '… '}{said.text!r}"
            case events_pb2.ReplyText():
                return f"{said.text!r} …"
            case events_pb2.ReplyAudio():
                return f"first {len(said.audio.data)} bytes …"
            case events_pb2.ReplyEnded():
                return f"{said.total_samples / self._reply_hz:.2f} s: {said.text!r}"
            case events_pb2.ReplyResumed():
                return f"from {said.first_sample / self._reply_hz:.2f} s"
            case events_pb2.Interrupted():
                reason = events_pb2.InterruptionReason.Name(said.reason).removeprefix("INTERRUPTION_REASON_")
                return f"{reason.lower()}, heard {said.heard_samples / self._reply_hz:.2f} s"
            case events_pb2.TurnEnded():
                return _outcome(said)
            case events_pb2.ToolCallRequested():
                return f"{said.call.name}({said.call.arguments_json})"
            case events_pb2.GoAway():
                return f"in {said.time_left_ms / 1000:.1f} s"
            case events_pb2.ErrorEvent():
                return str(ApiError.from_status(said.status))
        return ""


def breakdown(metrics: metrics_pb2.TurnMetrics) -> str:
    """Where the silence before the reply went: the whole, and its parts."""
    if not metrics.HasField("time_to_first_audio_ms"):
        return ""
    parts = metrics.breakdown
    names = [field.name for field in parts.DESCRIPTOR.fields]
    told = " + ".join(f"{name.removesuffix('_ms')} {getattr(parts, name)}" for name in names)
    return f"first audio after {metrics.time_to_first_audio_ms} ms = {told}"


def _outcome(ended: events_pb2.TurnEnded) -> str:
    outcome = session_pb2.TurnOutcome.Name(ended.record.outcome).removeprefix("TURN_OUTCOME_").lower()
    if ended.HasField("error"):
        return f"{outcome}: {ApiError.from_status(ended.error)}"
    took = breakdown(ended.record.metrics)
    return f"{outcome}; {took}" if took else outcome
