"""One stream of a conversation, both ways at once.

    client ── message ─► size, form, limits ─► stream.hear / stream.tell            in the order sent, one at a time
    client ◄─ event ──── numbered as it is sent ◄── stream.events()                 waits where the client is slow

What a client can mend is refused with an `error` event and the conversation goes on; anything else ends the stream. A
client that goes away cancels the call; its messages then seem to end, as if it had closed its side, a moment before.
So the end of the messages counts only after a short while in which the call was not cancelled.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from protos.gen.stepaudio.v1 import audio_pb2, conversation_pb2
from services.orchestrator.conversation import events
from services.orchestrator.conversation.outputs import Refused
from services.orchestrator.ingress.audio_in import HEARING_RATE_HZ, AudioInput
from services.orchestrator.ingress.fields import Fields
from services.orchestrator.ingress.formats import input_format, reply_format
from services.orchestrator.ingress.limits import (
    LONGEST_SAY,
    checked_request_id,
    checked_text,
    checked_words,
    refusal,
)
from services.orchestrator.ingress.messages import EventWriter, Profile
from services.orchestrator.ingress.opening import check_size, read_playback
from services.orchestrator.ingress.options import merge
from services.orchestrator.ingress.tools import check_schemas, read_answer
from services.orchestrator.pipeline.session import Emitted, Stream, StreamOpened
from services.orchestrator.pipeline.voices import VoiceBook
from services.shared.audio.positions import OutputPositions
from services.shared.errors import (
    InvalidFirstMessageError,
    InvalidInputError,
    SlowConsumerError,
    StepAudioError,
)

Request = conversation_pb2.ConverseRequest
Response = conversation_pb2.ConverseResponse

MENDABLE: Final = frozenset(
    {
        "INVALID_OPTION",
        "INVALID_INPUT",
        "UNREADABLE_AUDIO",
        "NON_FINITE_AUDIO",
        "AUDIO_TOO_LONG",
        "INVALID_TEXT",
        "TEXT_TOO_LONG",
        "VOICE_NOT_FOUND",
        "INPUT_ENDED",
        "TOO_MANY_WAITING_TURNS",
        "TOOL_CALL_NOT_FOUND",
    }
)
"""Reasons that end no stream. Source: conversation.proto."""
MAX_REFUSALS: Final = 20
REFUSALS_WINDOW_MS: Final = 1000
REPLAY_S: Final = 30.0
"""Audio that a client keeps for a resume at most: an utterance."""

_TIMINGS: Final = {
    conversation_pb2.REPLY_TIMING_UNSPECIFIED: events.ReplyTiming.INTERRUPT,
    conversation_pb2.REPLY_TIMING_INTERRUPT: events.ReplyTiming.INTERRUPT,
    conversation_pb2.REPLY_TIMING_AFTER_REPLY: events.ReplyTiming.AFTER_REPLY,
}


@dataclass(frozen=True, slots=True)
class StreamPatience:
    """How long a stream waits for its client.

    Attributes:
        first_message_s: for `start` or `resume`.
        write_s: for the client to take the events of one thing that happened, a piece of a reply's audio at most;
            longer, and it is no consumer of real time any more.
        half_close_s: after the last message, for a sign that the client is gone and has not just closed its side.
        voice_s: for a voice to be found.
    """

    first_message_s: float = 10.0
    write_s: float = 10.0
    half_close_s: float = 0.1
    voice_s: float = 10.0


class ConversationStream:
    """Reads and writes one stream until it ends.

    Args:
        stream: of the session.
        profile: what is told of this server.
        voices: those that can be asked for.
        patience: how long the client is waited for.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        stream: Stream,
        profile: Profile,
        voices: VoiceBook,
        *,
        patience: StreamPatience,
        clock: Callable[[], float],
    ) -> None:
        self._stream = stream
        self._profile = profile
        self._voices = voices
        self._patience = patience
        self._clock = clock
        self._writer = EventWriter(stream.session_id, stream.formats, profile, wall_s=stream.wall_s)
        reply_rate_hz = reply_format(stream.formats).sample_rate_hz
        self._reply = OutputPositions(profile.native_rate_hz, reply_rate_hz)
        self._options = stream.options
        self._refusals_ms: deque[int] = deque(maxlen=MAX_REFUSALS + 1)
        self._number = 1  # the first message is read by now
        self._has_ended = False

    async def run(self, requests: AsyncIterator[Request], write: Callable[[Response], Awaitable[None]]) -> None:
        """Hold the conversation.

        Args:
            requests: the client's messages after the first one.
            write: sends one event, and waits where the client is slow.

        Raises:
            StepAudioError: with what the stream ends; in a group where both directions were under way.
        """
        async with aclosing(self._stream.events()) as emissions:
            opened = await anext(emissions)
            await self._send(opened, write)
            if not isinstance(opened.output, StreamOpened):
                raise StepAudioError("a stream began with another event than its opening")
            self._options = opened.output.options
            audio = self._audio_input(opened.output, opened.elapsed_ms)
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(requests, audio))
                async for emitted in emissions:
                    await self._send(emitted, write)
                reader.cancel()

    def _audio_input(self, opened: StreamOpened, elapsed_ms: int) -> AudioInput:
        """After a resume audio may go on anywhere up to now: what was not kept meanwhile is silence."""
        behind_s = max(elapsed_ms / 1000 - opened.next_input_sample / HEARING_RATE_HZ, 0.0)
        away_s = max(behind_s, self._profile.resume_window_ms / 1000)
        replay_s = REPLAY_S + away_s if opened.resumed else 0.0
        return AudioInput(
            input_format(self._stream.formats),
            clock=self._clock,
            first_sample=opened.next_input_sample,
            replay_s=replay_s,
        )

    async def _send(self, emitted: Emitted, write: Callable[[Response], Awaitable[None]]) -> None:
        if isinstance(emitted.output, Refused):
            self._count_refusal(emitted.elapsed_ms, emitted.output.error)
        try:
            async with asyncio.timeout(self._patience.write_s):  # around all of them: a timer for each chunk is felt
                for event in self._writer.write(emitted):
                    event.sequence = self._stream.number()
                    await write(event)
        except TimeoutError as error:
            raise SlowConsumerError(
                f"no event was read for {self._patience.write_s:g} s; resume when there is time to listen"
            ) from error

    def _count_refusal(self, elapsed_ms: int, error: StepAudioError) -> None:
        self._refusals_ms.append(elapsed_ms)
        is_flood = len(self._refusals_ms) > MAX_REFUSALS
        if is_flood and elapsed_ms - self._refusals_ms[0] < REFUSALS_WINDOW_MS:
            raise error

    async def _read(self, requests: AsyncIterator[Request], audio: AudioInput) -> None:
        async for request in requests:
            self._number += 1
            check_size(request)
            try:
                if request.HasField("audio"):
                    self._hear(request.audio, audio)
                else:
                    await self._handle(request, audio)
            except StepAudioError as error:
                if error.reason not in MENDABLE:
                    raise
                self._stream.refuse(error, message_number=self._number)
        await asyncio.sleep(self._patience.half_close_s)
        self._end_input(audio)

    def _hear(self, chunk: audio_pb2.AudioChunk, audio: AudioInput) -> None:
        heard = audio.push(chunk.data, chunk.first_sample if chunk.HasField("first_sample") else None)
        self._stream.hear(heard.samples, heard.first_sample)

    async def _handle(self, request: Request, audio: AudioInput) -> None:
        """Do what a message asks for, or raise and have done nothing."""
        match request.WhichOneof("message"):
            case "playback_ack":
                playback = read_playback(request.playback_ack, self._reply, "playback_ack")
                self._tell(events.Acknowledged(self._clock(), playback))
            case "session_update":
                await self._update(request.session_update)
            case "text_turn":
                self._tell(self._text_turn(request.text_turn))
            case "say":
                self._tell(self._say(request.say))
            case "interrupt":
                self._tell(self._interrupt(request.interrupt))
            case "end_of_turn":
                self._tell(events.EndOfTurn(self._clock(), self._stream.input_end_sample))
            case "end_of_input":
                self._end_input(audio)
            case "tool_result":
                self._tell(read_answer(request.tool_result, self._clock()))
            case "start" | "resume" as kind:
                raise InvalidFirstMessageError(f"{kind} can only be a stream's first message", field=kind)
            case _:
                self._stream.touch()
                raise refusal(InvalidInputError, "message", "not set or not known", "one of the messages of the API")

    def _tell(self, event: events.Event) -> None:
        self._stream.tell(event, message_number=self._number)

    async def _update(self, update: conversation_pb2.SessionUpdate) -> None:
        Fields(update, "session_update")
        await check_schemas(update.options.tools.tools)
        options = merge(self._options, update.options, self._profile.offer, tenant=self._stream.tenant)
        if options.voice.voice_id != self._options.voice.voice_id:
            async with asyncio.timeout(self._patience.voice_s):
                await self._voices.find(self._stream.tenant, options.voice.voice_id)
        self._options = options
        self._tell(events.OptionsChanged(self._clock(), options))

    def _text_turn(self, turn: conversation_pb2.TextTurn) -> events.TextTurn:
        request_id = checked_request_id(turn.request_id, "text_turn.request_id")
        text = checked_text(turn.text, "text_turn.text")
        return events.TextTurn(self._clock(), request_id, text, _timing(turn.timing, "text_turn.timing"))

    def _say(self, say: conversation_pb2.Say) -> events.Say:
        request_id = checked_request_id(say.request_id, "say.request_id")
        text = checked_words(say.text, "say.text", LONGEST_SAY)
        return events.Say(self._clock(), request_id, text, _timing(say.timing, "say.timing"))

    def _interrupt(self, interrupt: conversation_pb2.Interrupt) -> events.Interrupt:
        playback = None
        if interrupt.HasField("playback"):
            playback = read_playback(interrupt.playback, self._reply, "interrupt.playback")
        return events.Interrupt(self._clock(), playback)

    def _end_input(self, audio: AudioInput) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        rest = audio.flush()
        self._stream.hear(rest.samples, rest.first_sample)
        self._tell(events.InputEnded(self._clock(), self._stream.input_end_sample))


def _timing(number: int, field: str) -> events.ReplyTiming:
    timing = _TIMINGS.get(conversation_pb2.ReplyTiming.ValueType(number))
    if timing is None:
        raise refusal(InvalidInputError, field, str(number), "a timing of the API")
    return timing
