"""What the pipeline emits as the events of one stream, positions and formats the client's.

    Emitted ──► 0 or more ConverseResponses, in order; a reply's audio waits here for whole chunks, until it ends

Holds what a stream needs to be told: its formats, and the audio of the reply under way. It decides
nothing: what is told, and when, is the conversation's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, cast

from protos.gen.stepaudio.v1 import conversation_pb2, events_pb2, turn_taking_pb2
from services.orchestrator.conversation import outputs
from services.orchestrator.conversation.events import GoAwayReason
from services.orchestrator.conversation.outputs import InterruptionReason
from services.orchestrator.conversation.record import Outcome
from services.orchestrator.ingress.audio_out import AudioOutput, ReplyChunk, preskip_samples
from services.orchestrator.ingress.faults import to_status
from services.orchestrator.ingress.formats import ENCODING_NUMBERS, format_message, input_format, reply_format
from services.orchestrator.ingress.options import Offer, mode_numbers, to_message
from services.orchestrator.ingress.records import ORIGINS, turn_message
from services.orchestrator.ingress.tools import OUTCOMES, call_message
from services.orchestrator.pipeline.session import Emitted, StreamOpened
from services.orchestrator.ports.store import StreamFormats
from services.shared.audio.pcm import Samples
from services.shared.audio.positions import InputPositions, OutputPositions

Response = conversation_pb2.ConverseResponse
HEARING_RATE_HZ: Final = 16_000

_INTERRUPTIONS: Final[Mapping[InterruptionReason, events_pb2.InterruptionReason.ValueType]] = MappingProxyType(
    {
        InterruptionReason.SPEECH: events_pb2.INTERRUPTION_REASON_SPEECH,
        InterruptionReason.CLIENT: events_pb2.INTERRUPTION_REASON_CLIENT,
        InterruptionReason.CLIENT_TURN: events_pb2.INTERRUPTION_REASON_CLIENT_TURN,
    }
)
_GO_AWAYS: Final[Mapping[GoAwayReason, events_pb2.GoAwayReason.ValueType]] = MappingProxyType(
    {
        GoAwayReason.DRAINING: events_pb2.GO_AWAY_REASON_DRAINING,
        GoAwayReason.SESSION_TOO_LONG: events_pb2.GO_AWAY_REASON_SESSION_TOO_LONG,
    }
)


@dataclass(frozen=True, slots=True)
class Profile:
    """What `session_started` tells of this server.

    Attributes:
        offer: what it has to give.
        native_rate_hz: at which replies are made.
        resume_window_ms, max_session_ms, max_utterance_ms, max_playout_lead_ms, max_idle_ms: as `Capabilities` and
            `Limits` say; the pipeline holds to them.
        server_version: for bug reports.
    """

    offer: Offer
    native_rate_hz: int
    resume_window_ms: int
    max_session_ms: int
    max_utterance_ms: int
    max_playout_lead_ms: int
    max_idle_ms: int
    server_version: str

    def capabilities(self) -> events_pb2.Capabilities:
        """As a message."""
        modes = [turn_taking_pb2.EndpointingMode.ValueType(number) for number in mode_numbers(self.offer)]
        return events_pb2.Capabilities(
            audio_encodings=ENCODING_NUMBERS,
            endpointing_modes=modes,
            native_sample_rate_hz=self.native_rate_hz,
            resume_window_ms=self.resume_window_ms,
            limits=events_pb2.Limits(
                max_session_ms=self.max_session_ms,
                max_utterance_ms=self.max_utterance_ms,
                max_playout_lead_ms=self.max_playout_lead_ms,
                max_idle_ms=self.max_idle_ms,
                max_context_tokens=self.offer.context_tokens,
            ),
            server_version=self.server_version,
        )


class EventWriter:
    """Writes the events of one stream.

    Args:
        session_id: the session's.
        formats: of its audio.
        profile: what is told of this server.
        wall_s: what added to a monotonic time gives wall time, as the store of sessions is told.
    """

    def __init__(self, session_id: str, formats: StreamFormats, profile: Profile, *, wall_s: float) -> None:
        self._session_id = session_id
        self._chunk_ms = formats.reply_chunk_ms
        self._input_format = input_format(formats)
        self._reply_format = reply_format(formats)
        self._profile = profile
        self._wall_s = wall_s
        self._user = InputPositions(self._input_format.sample_rate_hz, HEARING_RATE_HZ)
        self._reply = OutputPositions(profile.native_rate_hz, self._reply_format.sample_rate_hz)
        self._audio: AudioOutput | None = None

    def write(self, emitted: Emitted) -> Iterator[Response]:
        """Give the events that an output becomes, all but their numbers."""
        for event in self._events(emitted):
            event.turn = emitted.turn
            event.epoch = emitted.epoch
            event.elapsed_ms = emitted.elapsed_ms
            yield event

    def _events(self, emitted: Emitted) -> Iterator[Response]:
        match emitted.output:
            case outputs.ReplyAudio(spoken_characters=characters, samples=samples):
                if self._audio is not None:
                    yield from map(_audio_event, self._audio.push(cast(Samples, samples), characters))
            case outputs.ReplyText(text=text):
                yield Response(reply_text=events_pb2.ReplyText(text=text))
            case outputs.ReplyStarted() | outputs.ReplyResumed() | outputs.ReplyEnded() | outputs.Interrupted():
                yield from self._reply_events(emitted.output)
            case StreamOpened():
                yield Response(session_started=self._session_started(emitted.output))
            case outputs.TurnEnded():
                yield Response(turn_ended=self._turn_ended(emitted.output))
            case outputs.Refused(error=error):
                event = events_pb2.ErrorEvent(status=to_status(error), message_number=emitted.message_number)
                yield Response(error=event)
            case other:
                yield self._plain_event(other)

    def _reply_events(
        self, output: outputs.ReplyStarted | outputs.ReplyResumed | outputs.ReplyEnded | outputs.Interrupted
    ) -> Iterator[Response]:
        match output:
            case outputs.ReplyStarted(origin=origin, request_id=request_id):
                self._audio = self._new_audio(first_sample=0)
                started = events_pb2.ReplyStarted(origin=ORIGINS[origin], request_id=request_id)
                yield Response(reply_started=started)
            case outputs.ReplyResumed(first_sample=first_sample):
                self._audio = self._new_audio(first_sample=first_sample)
                resumed = events_pb2.ReplyResumed(
                    first_sample=self._reply.theirs(first_sample),
                    text=output.text,
                    origin=ORIGINS[output.origin],
                    request_id=output.request_id,
                )
                yield Response(reply_resumed=resumed)
            case outputs.ReplyEnded(total_samples=total_samples, text=text):
                total = self._reply.theirs(total_samples)
                if self._audio is not None:
                    yield from map(_audio_event, self._audio.flush())
                    total = self._audio.end_sample
                    self._audio = None
                yield Response(reply_ended=events_pb2.ReplyEnded(total_samples=total, text=text))
            case outputs.Interrupted(reason=reason, heard_samples=heard):
                self._audio = None
                interrupted = events_pb2.Interrupted(
                    reason=_INTERRUPTIONS[reason], heard_samples=self._reply.theirs(heard)
                )
                yield Response(interrupted=interrupted)

    def _plain_event(self, output: outputs.Output | StreamOpened) -> Response:
        match output:
            case outputs.SpeechStarted(first_sample=sample):
                return Response(speech_started=events_pb2.SpeechStarted(first_sample=self._user.theirs(sample)))
            case outputs.SpeechStopped(end_sample=sample):
                return Response(speech_stopped=events_pb2.SpeechStopped(end_sample=self._user.theirs(sample)))
            case outputs.Transcript():
                transcript = events_pb2.Transcript(
                    text=output.text,
                    is_final=output.is_final,
                    first_sample=self._user.theirs(output.first_sample),
                    end_sample=self._user.theirs(output.end_sample),
                )
                return Response(transcript=transcript)
            case outputs.SessionUpdated(options=options):
                updated = events_pb2.SessionUpdated(options=to_message(options, self._profile.offer))
                return Response(session_updated=updated)
            case outputs.InputReleased(before_sample=sample):
                released = events_pb2.InputReleased(before_sample=self._user.theirs(sample))
                return Response(input_released=released)
            case outputs.ToolCallRequested():
                requested = events_pb2.ToolCallRequested(
                    call=call_message(output.call), client_runs=output.client_runs, timeout_ms=output.timeout_ms
                )
                return Response(tool_call_requested=requested)
            case outputs.ToolCallEnded(call_id=call_id, outcome=outcome):
                ended = events_pb2.ToolCallEnded(call_id=call_id, outcome=OUTCOMES[outcome])
                return Response(tool_call_ended=ended)
            case outputs.GoAway():
                away = events_pb2.GoAway(
                    reason=_GO_AWAYS[output.reason], time_left_ms=output.time_left_ms, resumable=output.resumable
                )
                return Response(go_away=away)
        raise TypeError(f"no event tells {type(output).__name__}")

    def _session_started(self, opened: StreamOpened) -> events_pb2.SessionStarted:
        return events_pb2.SessionStarted(
            session_id=self._session_id,
            resume_token=opened.resume_token,
            resumed=opened.resumed,
            next_input_sample=self._user.theirs(opened.next_input_sample),
            input_audio=format_message(self._input_format),
            reply_audio=format_message(self._reply_format),
            reply_preskip_samples=preskip_samples(self._reply_format),
            options=to_message(opened.options, self._profile.offer),
            capabilities=self._profile.capabilities(),
        )

    def _turn_ended(self, output: outputs.TurnEnded) -> events_pb2.TurnEnded:
        record = output.record
        ended = events_pb2.TurnEnded(
            record=turn_message(record, self._wall_s), heard_samples=self._reply.theirs(output.heard_samples)
        )
        if record.outcome is Outcome.FAILED and record.error is not None:
            ended.error.CopyFrom(to_status(record.error))
        return ended

    def _new_audio(self, *, first_sample: int) -> AudioOutput:
        return AudioOutput(
            self._reply_format,
            self._profile.native_rate_hz,
            chunk_ms=self._chunk_ms,
            first_sample=first_sample,
        )


def _audio_event(chunk: ReplyChunk) -> Response:
    """Filled in place: a message that is given to another one's constructor is copied, with its audio."""
    event = Response()
    reply_audio = event.reply_audio
    reply_audio.spoken_characters = chunk.spoken_characters
    audio = reply_audio.audio
    audio.data = chunk.data
    audio.first_sample = chunk.first_sample
    return event
