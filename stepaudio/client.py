"""The services beside conversations: speak, write down, chat; voices; what is kept of sessions.

    async with Client("127.0.0.1:50051") as client:
        async for part in client.synthesize("Hello."):
            if part.HasField("audio"):
                ...

Streams give the API's own messages, part by part. Calls are tried again where the server says that it helps; a stream
only before its first part, since what was given cannot be taken back. Source: docs/api.md, "Trying again".
"""

import uuid
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc
from numpy.typing import ArrayLike

from protos.gen.stepaudio.v1 import (
    audio_pb2,
    chat_pb2,
    options_pb2,
    session_pb2,
    session_pb2_grpc,
    speech_pb2,
    speech_pb2_grpc,
    tools_pb2,
    voice_pb2,
    voice_pb2_grpc,
)
from stepaudio.errors import ApiError
from stepaudio.formats import Chunker, check_whole, encode, pcm16
from stepaudio.retry import Retry
from stepaudio.server import Server
from stepaudio.stream import DEFAULT_INPUT_RATE_HZ, DEFAULT_REPLY_RATE_HZ

_READ_TIMEOUT_S: Final = 5.0
_CREATE_VOICE_TIMEOUT_S: Final = 30.0
_CHAT_TIMEOUT_S: Final = 60.0
_SYNTHESIZE_TIMEOUT_S: Final = 10.0
_SYNTHESIZE_CHARACTER_S: Final = 0.8
"""Twice the length of a slowly spoken character: a text's speech is not known before."""

Part = TypeVar("Part")
Answer = TypeVar("Answer")


class Client:
    """All services but conversations; an async context manager.

    Args:
        server: the address, or address and credentials.
        retry: how patiently calls are tried again.

    Raises:
        InvalidOptionError: the address is none.
    """

    def __init__(self, server: str | Server, *, retry: Retry | None = None) -> None:
        self._server = Server.at(server) if isinstance(server, str) else server
        self._retry = retry if retry is not None else Retry()

    async def __aenter__(self) -> Self:
        self._channel = self._server.open_channel()
        self._speech = speech_pb2_grpc.SpeechServiceStub(self._channel)
        self._voices = voice_pb2_grpc.VoiceServiceStub(self._channel)
        self._sessions = session_pb2_grpc.SessionServiceStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    # Speech.

    async def synthesize(
        self,
        text: str,
        *,
        voice: options_pb2.VoiceOptions | None = None,
        audio: audio_pb2.AudioFormat | None = None,
        chunk_ms: int = 0,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[speech_pb2.SynthesizeResponse, None]:
        """Speak a text.

        Args:
            text: 1 to 16384 characters; may begin with a style tag.
            voice: who speaks, and how.
            audio: format; PCM16 at 24 kHz if None.
            chunk_ms: length of each chunk, 10 to 200; 0 lets the server choose.
            timeout_s: for the whole; 10 s and twice the length of a slow speaker's speech if None.

        Yields:
            `started`, `audio` many times, `finished`.

        Raises:
            ApiError: the call failed.
        """
        request = speech_pb2.SynthesizeRequest(
            text=text, voice=voice, audio=audio or pcm16(DEFAULT_REPLY_RATE_HZ), chunk_ms=chunk_ms
        )
        limit_s = timeout_s or _SYNTHESIZE_TIMEOUT_S + _SYNTHESIZE_CHARACTER_S * len(text)
        metadata = self._server.metadata
        async for part in _parts(
            lambda: self._speech.Synthesize(request, timeout=limit_s, metadata=metadata), self._retry
        ):
            yield part

    async def transcribe(
        self,
        audio: ArrayLike | bytes | AsyncIterable[ArrayLike | bytes],
        config: speech_pb2.TranscribeConfig | None = None,
    ) -> AsyncGenerator[speech_pb2.TranscribeResponse, None]:
        """Write down speech, utterance by utterance.

        Args:
            audio: [N] samples or bytes in the format; or pieces of either as they arrive, which are sent once and so
                never tried again.
            config: how to listen; PCM16 at 16 kHz if None.

        Yields:
            For each utterance `speech_started`, `transcript`s, `speech_stopped`; at last `finished`.

        Raises:
            AudioError: not whole samples, or not finite.
            ApiError: the call failed.
        """
        chosen = speech_pb2.TranscribeConfig()
        if config is not None:
            chosen.CopyFrom(config)
        if not chosen.HasField("audio"):
            chosen.audio.CopyFrom(pcm16(DEFAULT_INPUT_RATE_HZ))
        metadata = self._server.metadata
        retry = self._retry
        if isinstance(audio, AsyncIterable):
            pieces, retry = audio, replace(retry, max_attempts=1)

            def source() -> AsyncIterable[ArrayLike | bytes]:
                return pieces
        else:
            data = _as_bytes(audio, chosen.audio)

            def source() -> AsyncIterable[ArrayLike | bytes]:
                return _once(data)

        async for part in _parts(
            lambda: self._speech.Transcribe(_transcribe_requests(chosen, source()), metadata=metadata), retry
        ):
            yield part

    async def chat(
        self,
        messages: Iterable[chat_pb2.ChatMessage],
        *,
        generation: options_pb2.GenerationOptions | None = None,
        tools: Iterable[tools_pb2.Tool] = (),
        timeout_s: float = _CHAT_TIMEOUT_S,
    ) -> AsyncGenerator[speech_pb2.ChatResponse, None]:
        """Continue a conversation in writing.

        Args:
            messages: oldest first.
            generation: how the text is generated.
            tools: functions that the model may call.
            timeout_s: for the whole.

        Yields:
            `text` many times, then each `tool_call`, then `finished`.

        Raises:
            ApiError: the call failed.
        """
        request = speech_pb2.ChatRequest(messages=messages, generation=generation, tools=tools)
        metadata = self._server.metadata
        async for part in _parts(lambda: self._speech.Chat(request, timeout=timeout_s, metadata=metadata), self._retry):
            yield part

    # Voices.

    async def create_voice(
        self,
        clip: bytes,
        transcript: str,
        consent: voice_pb2.VoiceConsent,
        *,
        display_name: str,
        request_id: str | None = None,
    ) -> voice_pb2.Voice:
        """Make a voice from a recording of a consenting speaker.

        Args:
            clip: a WAV, FLAC, Ogg or MP3 file of 0.5 to 30 s.
            transcript: what is said in it, word for word.
            consent: the speaker's agreement.
            display_name: what people call the voice.
            request_id: the same id gives the same voice within 24 h; chosen here if None.

        Raises:
            ApiError: the call failed.
        """
        request = voice_pb2.CreateVoiceRequest(
            request_id=request_id or uuid.uuid4().hex,
            display_name=display_name,
            clip=audio_pb2.AudioClip(data=clip),
            transcript=transcript,
            consent=consent,
        )
        metadata = self._server.metadata
        answer = await self._answer(
            lambda: self._voices.CreateVoice(request, timeout=_CREATE_VOICE_TIMEOUT_S, metadata=metadata)
        )
        return answer.voice

    async def list_voices(
        self, kind: voice_pb2.VoiceKind.ValueType = voice_pb2.VOICE_KIND_UNSPECIFIED
    ) -> AsyncIterator[voice_pb2.Voice]:
        """Give every voice of a kind, page by page, built-in ones first.

        Raises:
            ApiError: a call failed.
        """
        request = voice_pb2.ListVoicesRequest(kind=kind)
        while True:
            page = await self._answer(
                lambda: self._voices.ListVoices(request, timeout=_READ_TIMEOUT_S, metadata=self._server.metadata)
            )
            for voice in page.voices:
                yield voice
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def get_voice(self, voice_id: str) -> voice_pb2.Voice:
        """Tell about one voice. Raises ApiError."""
        request = voice_pb2.GetVoiceRequest(voice_id=voice_id)
        answer = await self._answer(
            lambda: self._voices.GetVoice(request, timeout=_READ_TIMEOUT_S, metadata=self._server.metadata)
        )
        return answer.voice

    async def delete_voice(self, voice_id: str) -> None:
        """Delete a voice of one's own, for good. Raises ApiError."""
        request = voice_pb2.DeleteVoiceRequest(voice_id=voice_id)
        await self._delete(
            lambda: self._voices.DeleteVoice(request, timeout=_READ_TIMEOUT_S, metadata=self._server.metadata)
        )

    # Sessions.

    async def get_session(self, session_id: str) -> session_pb2.Session:
        """Tell one session's state. Raises ApiError."""
        request = session_pb2.GetSessionRequest(session_id=session_id)
        answer = await self._answer(
            lambda: self._sessions.GetSession(request, timeout=_READ_TIMEOUT_S, metadata=self._server.metadata)
        )
        return answer.session

    async def list_turns(self, session_id: str) -> AsyncIterator[session_pb2.Turn]:
        """Give every committed turn of a session, oldest first, page by page. Raises ApiError."""
        request = session_pb2.ListTurnsRequest(session_id=session_id)
        while True:
            page = await self._answer(
                lambda: self._sessions.ListTurns(request, timeout=_READ_TIMEOUT_S, metadata=self._server.metadata)
            )
            for turn in page.turns:
                yield turn
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def delete_session(self, session_id: str) -> None:
        """Delete a session with all its turns, for good; a live one ends first. Raises ApiError."""
        request = session_pb2.DeleteSessionRequest(session_id=session_id)
        await self._delete(
            lambda: self._sessions.DeleteSession(request, timeout=_READ_TIMEOUT_S, metadata=self._server.metadata)
        )

    # How calls are made.

    async def _answer(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        async def once(_: int) -> Answer:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                raise ApiError.from_call(error) from error

        return await self._retry.run(once)

    async def _delete(self, call: Callable[[], Awaitable[object]]) -> None:
        """Delete; where the answer of an earlier attempt was lost, what is not there any more was deleted by it."""

        async def once(attempt: int) -> None:
            try:
                await call()
            except grpc.aio.AioRpcError as error:
                if attempt == 1 or error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise ApiError.from_call(error) from error

        await self._retry.run(once)


async def _parts(call: Callable[[], AsyncIterable[Part]], retry: Retry) -> AsyncGenerator[Part, None]:
    """The parts of a streamed answer; closing the generator cancels the call."""
    attempt, has_begun = 1, False
    while True:
        stream = call()
        try:
            async for part in stream:
                has_begun = True
                yield part
            return
        except grpc.aio.AioRpcError as error:
            failure = ApiError.from_call(error)
            if has_begun:
                raise failure from error
        finally:
            if isinstance(stream, grpc.aio.Call):
                stream.cancel()
        await retry.wait(failure, attempt)
        attempt += 1


async def _transcribe_requests(
    config: speech_pb2.TranscribeConfig, audio: AsyncIterable[ArrayLike | bytes]
) -> AsyncIterator[speech_pb2.TranscribeRequest]:
    yield speech_pb2.TranscribeRequest(config=config)
    chunker = Chunker(config.audio)
    async for piece in audio:
        for chunk in chunker.push(_as_bytes(piece, config.audio)):
            yield speech_pb2.TranscribeRequest(audio=chunk)
    for chunk in chunker.flush():
        yield speech_pb2.TranscribeRequest(audio=chunk)


def _as_bytes(audio: ArrayLike | bytes, audio_format: audio_pb2.AudioFormat) -> bytes:
    if isinstance(audio, bytes):
        check_whole(audio, audio_format)
        return audio
    return encode(audio, audio_format)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
