"""`SpeechService`: the rooms one by one, nothing kept. Whatever ends a call lets go of every room at once.

A stream is written as fast as it is read: a client that takes no part of an answer for a while is no consumer any more.
"""

import asyncio
import itertools
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from protos.gen.stepaudio.v1 import audio_pb2, chat_pb2, speech_pb2, speech_pb2_grpc, tools_pb2
from services.orchestrator.conversation.options import Tool, ToolExecutor
from services.orchestrator.conversation.record import Role, ToolCall, UtteranceSpeech
from services.orchestrator.ingress.audio_in import AudioInput
from services.orchestrator.ingress.audio_out import AudioOutput, preskip_samples
from services.orchestrator.ingress.calls import Context, caller, traceparent
from services.orchestrator.ingress.clips import ClipLength, read_clip
from services.orchestrator.ingress.dictation import Dictation
from services.orchestrator.ingress.fields import Fields
from services.orchestrator.ingress.formats import read_format
from services.orchestrator.ingress.limits import LONGEST_TEXT, checked_text, refusal
from services.orchestrator.ingress.opening import ROLES
from services.orchestrator.ingress.options import Offer, merge_generation, merge_voice
from services.orchestrator.ingress.synthesis import Synthesis, Task
from services.orchestrator.ingress.tools import call_message, check_schemas, read_exchange_part, read_tools
from services.orchestrator.pipeline.calls import checked_call
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.pipeline.voices import VoiceBook
from services.orchestrator.ports.hearing import VoiceActivityDetector
from services.orchestrator.ports.rooms import ChatMessage, FunctionCall, Rooms, SpeechTokens, TextPiece, Work
from services.shared.audio.speech_input import prepare
from services.shared.errors import (
    EmptyAudioError,
    EmptyConversationError,
    GenerationError,
    InputIdleError,
    InvalidFirstMessageError,
    InvalidInputError,
    NothingToSpeakError,
    SlowConsumerError,
)
from services.shared.prompt.speech.tags import speakable

MAX_MESSAGES: Final = 512
SPEECH_LENGTH: Final = ClipLength(0.1, 30.0)
_FINISH_REASONS: Final = {
    "stop": speech_pb2.CHAT_FINISH_REASON_STOP,
    "length": speech_pb2.CHAT_FINISH_REASON_LENGTH,
}
_SEEDS: Final = 2**31

Part = TypeVar("Part")
TranscribeRequests = AsyncIterator[speech_pb2.TranscribeRequest]


@dataclass(frozen=True, slots=True)
class SpeechPatience:
    """How long a call waits.

    Attributes:
        first_message_s, idle_s: for the client's first and next message.
        write_s: for the client to take one part of the answer.
        room_s: for the next output of a room.
    """

    first_message_s: float = 10.0
    idle_s: float = 60.0
    write_s: float = 10.0
    room_s: float = 20.0


class SpeechService(speech_pb2_grpc.SpeechServiceServicer):
    """Serves the rooms.

    Args:
        rooms: where the models are.
        detector: finds speech.
        voices: those that can be asked for.
        offer: what this server has to give.
        limits: of a reply's doors.
        patience: how long is waited.
        clock: monotonic seconds.
        draw_seed: where the caller gives none.
    """

    def __init__(
        self,
        rooms: Rooms,
        detector: VoiceActivityDetector,
        voices: VoiceBook,
        offer: Offer,
        *,
        limits: PipelineLimits,
        patience: SpeechPatience,
        clock: Callable[[], float] = time.monotonic,
        draw_seed: Callable[[], int] = lambda: secrets.randbelow(_SEEDS),
    ) -> None:
        self._rooms = rooms
        self._detector = detector
        self._voices = voices
        self._offer = offer
        self._limits = limits
        self._patience = patience
        self._clock = clock
        self._draw_seed = draw_seed

    async def Synthesize(  # type: ignore[override]  # noqa: N802  # the reader-writer form; the generated name
        self, request: speech_pb2.SynthesizeRequest, context: Context
    ) -> None:
        """Speak a text."""
        asked_s = self._clock()
        text = checked_text(request.text, "text", LONGEST_TEXT)
        if not speakable(text):
            raise refusal(NothingToSpeakError, "text", "without any letter or digit", "something that can be spoken")
        format_ = read_format(request.audio, "audio")
        options = merge_voice(self._offer.defaults.voice, Fields(request.voice, "voice"))
        audio = AudioOutput(format_, self._rooms.vocoder.sample_rate_hz, chunk_ms=request.chunk_ms)
        async with asyncio.timeout(self._patience.room_s):
            voice = await self._voices.find(caller().tenant, options.voice_id)
        task = Task(
            text=text,
            options=replace(self._offer.defaults, voice=options),
            voice=voice,
            seed=self._draw_seed() if options.seed is None else options.seed,
            work=Work(traceparent=traceparent(context)),
            asked_s=asked_s,
        )
        write = self._patient(context.write)
        started = speech_pb2.SynthesisStarted(voice_id=voice.voice_id, preskip_samples=preskip_samples(format_))
        await write(speech_pb2.SynthesizeResponse(started=started))
        synthesis = Synthesis(task, self._rooms, audio, limits=self._limits, clock=self._clock)
        await synthesis.run(write)

    async def Transcribe(  # type: ignore[override]  # noqa: N802  # as above
        self, request_iterator: TranscribeRequests, context: Context
    ) -> None:
        """Write down speech as it arrives."""
        requests = aiter(request_iterator)
        config = await self._config(requests)
        format_ = read_format(config.audio, "config.audio")
        fields = Fields(config, "config")
        turn_taking = self._offer.defaults.turn_taking
        silence_ms = fields.integer("silence_ms", turn_taking.while_idle.complete_silence_ms, 100, 5000)
        # A clock that runs a second ahead with each chunk: a recording may come in any tempo.
        audio = AudioInput(format_, clock=itertools.count(0.0, 1.0).__next__)
        dictation = Dictation(
            self._rooms,
            self._detector.open(),
            options=turn_taking.voice_activity,
            silence_ms=silence_ms,
            partial_after_ms=turn_taking.while_idle.pause_ms if config.partial_transcripts else None,
            positions=audio.positions,
            work=Work(traceparent=traceparent(context)),
            write=self._patient(context.write),
        )
        try:
            while (chunk := await self._chunk(requests)) is not None:
                first_sample = chunk.first_sample if chunk.HasField("first_sample") else None
                await dictation.hear(audio.push(chunk.data, first_sample).samples)
            await dictation.hear(audio.flush().samples)
            await dictation.finish()
        finally:
            await dictation.close()
        finished = speech_pb2.TranscriptionFinished(total_samples=audio.next_sample)
        await self._patient(context.write)(speech_pb2.TranscribeResponse(finished=finished))

    async def Chat(  # type: ignore[override]  # noqa: N802  # as above
        self, request: speech_pb2.ChatRequest, context: Context
    ) -> None:
        """Give the agent's next message."""
        await check_schemas(request.tools)
        tools = _client_tools(request.tools)
        fields = Fields(request.generation, "generation")
        generation = merge_generation(self._offer.defaults.generation, fields, self._offer)
        work = Work(traceparent=traceparent(context))
        messages = await self._messages(request.messages, work)
        write = self._patient(context.write)
        text_tokens = 0
        calls: list[FunctionCall] = []
        async with aclosing(self._rooms.chat.reply(messages, generation, work, tools=tools)) as answer:
            while (piece := await self._piece(answer)) is not None:
                text_tokens += piece.tokens
                if piece.text:
                    await write(speech_pb2.ChatResponse(text=piece.text))
                calls += [piece.call] if tools and piece.call is not None else []
                if piece.finish_reason:
                    break
        for call in calls:
            await write(speech_pb2.ChatResponse(tool_call=call_message(self._checked(call, tools))))
        reason = "stop" if piece is None else piece.finish_reason
        finished = speech_pb2.ChatFinished(
            reason=speech_pb2.CHAT_FINISH_REASON_TOOL_CALLS if calls else _FINISH_REASONS[reason],
            prompt_tokens=self._rooms.chat.prompt_tokens(messages, tools),
            text_tokens=text_tokens,
        )
        await write(speech_pb2.ChatResponse(finished=finished))

    def _checked(self, written: FunctionCall, tools: Sequence[Tool]) -> ToolCall:
        """A call that fits its function, under an id of its own. Raises GenerationError if it does not fit."""
        arguments_json, problem = checked_call(written, tools)
        if problem:
            raise GenerationError(f"the model called a function wrongly: {problem}; try again with another seed")
        return ToolCall(uuid.uuid4().hex, written.name, arguments_json)

    async def _config(self, requests: TranscribeRequests) -> speech_pb2.TranscribeConfig:
        try:
            async with asyncio.timeout(self._patience.first_message_s):
                request = await anext(requests, None)
        except TimeoutError as error:
            patience_s = self._patience.first_message_s
            raise InvalidFirstMessageError(f"no first message came within {patience_s:g} s") from error
        if request is None or not request.HasField("config"):
            raise refusal(InvalidFirstMessageError, "message", "not config", "config as the first message of a stream")
        return request.config

    async def _chunk(self, requests: TranscribeRequests) -> audio_pb2.AudioChunk | None:
        """The next chunk of audio; None when the client has closed its side."""
        try:
            async with asyncio.timeout(self._patience.idle_s):
                request = await anext(requests, None)
        except TimeoutError as error:
            raise InputIdleError(f"nothing came for {self._patience.idle_s:g} s") from error
        match None if request is None else request.WhichOneof("message"):
            case "audio" if request is not None:
                return request.audio
            case "config":
                raise InvalidFirstMessageError("config can only be a stream's first message", field="config")
            case None if request is not None:
                raise refusal(InvalidInputError, "message", "not set or not known", "audio")
        return None

    async def _piece(self, answer: AsyncIterator[TextPiece]) -> TextPiece | None:
        async with asyncio.timeout(self._patience.room_s):
            return await anext(answer, None)

    async def _messages(self, messages: Sequence[chat_pb2.ChatMessage], work: Work) -> tuple[ChatMessage, ...]:
        if not messages:
            raise EmptyConversationError("the conversation has no messages; send at least one", field="messages")
        if len(messages) > MAX_MESSAGES:
            value, limit = f"{len(messages)} messages", f"1 to {MAX_MESSAGES} messages"
            raise refusal(InvalidInputError, "messages", value, limit)
        return tuple(
            [await self._message(message, f"messages[{place}]", work) for place, message in enumerate(messages)]
        )

    async def _message(self, message: chat_pb2.ChatMessage, field: str, work: Work) -> ChatMessage:
        role = ROLES.get(message.role)
        match message.WhichOneof("content"):
            case "text" if role is not None:
                return ChatMessage(role, checked_text(message.text, f"{field}.text"))
            case "audio" if role is Role.USER:
                return ChatMessage(role, await self._heard(message.audio, f"{field}.audio", work))
            case "tool_call" | "tool_result":
                part = read_exchange_part(message, field)
                assert not isinstance(part.content, UtteranceSpeech)
                return ChatMessage(part.role, part.content)
            case None:
                raise refusal(InvalidInputError, f"{field}.content", "not set", "text or audio")
            case kind:
                raise refusal(InvalidInputError, f"{field}.role", str(message.role), f"a role that can have {kind}")

    async def _heard(self, clip: audio_pb2.AudioClip, field: str, work: Work) -> SpeechTokens:
        """Speech of a message as its tokens."""
        audio = await read_clip(clip, field, SPEECH_LENGTH)
        samples = await asyncio.to_thread(prepare, audio.samples, audio.sample_rate_hz, trim=False)
        utterance = self._rooms.tokenizer.listen(work)
        try:
            async with asyncio.timeout(self._patience.room_s):
                await utterance.push(samples)
                tokens = await utterance.finish()
        finally:
            await utterance.abandon()
        if not tokens:
            raise refusal(EmptyAudioError, field, "too short", "speech long enough for one token")
        return SpeechTokens(tokens)

    def _patient(self, write: Callable[[Part], Awaitable[None]]) -> Callable[[Part], Awaitable[None]]:
        """Write as `write` does, but not for ever."""

        async def written(part: Part) -> None:
            try:
                async with asyncio.timeout(self._patience.write_s):
                    await write(part)
            except TimeoutError as error:
                raise SlowConsumerError(f"nothing was read for {self._patience.write_s:g} s") from error

        return written


def _client_tools(messages: Sequence[tools_pb2.Tool]) -> tuple[Tool, ...]:
    """Functions that the caller runs itself. Raises InvalidOptionError, for those of the server's too."""
    tools = read_tools(tools_pb2.ToolSet(tools=messages), "", None, "")
    assert all(tool.executor is ToolExecutor.CLIENT for tool in tools)
    return tools
