"""A conversation with the agent over one `Converse` stream, or over several where connections are lost.

    async with Conversation("127.0.0.1:50051", player=player) as conversation:
        await conversation.send_text("What is the capital of Egypt?")
        await conversation.end_input()
        async for event in conversation:
            ...                                              # ConverseResponse, as events.proto has it

What it does by itself:

    playing      reply audio goes to the player; `interrupted` empties it; `playback_ack` every 200 ms while it plays,
                 when it has run dry and when it was emptied
    resuming     ─ stream 1 ────╳ lost          ─ stream 1 ─ go_away ───────╳ taken over
                    ─ wait ─ resume ─ stream 2 ──►        └─ resume ─ stream 2 ──►
                 what the player holds is played on and counts as heard; what the server lacks is said again
    pacing       `send_audio` waits rather than be more than 1.5 s ahead of real time, where the server refuses 2 s
    functions    calls of `tools` are run beside the conversation, and answered; see tools.py
    idling       an empty `session_update` before the server would end the stream for silence

It refuses to know where audio comes from and what events mean to the application. Source: docs/api.md.
"""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import grpc
from numpy.typing import ArrayLike

from protos.gen.stepaudio.v1 import conversation_pb2, events_pb2, options_pb2, tools_pb2
from services.shared.errors import StepAudioError
from stepaudio.errors import ApiError, ConversationEndedError
from stepaudio.formats import Chunker, check_whole, encode
from stepaudio.journal import KEPT_AUDIO_S, Journal
from stepaudio.players import Playback, Player
from stepaudio.retry import Retry
from stepaudio.server import Server
from stepaudio.stream import ConverseCall, Stream, failure, with_formats
from stepaudio.tools import ClientTool, Toolbox, ToolFunction

Event = conversation_pb2.ConverseResponse
_Request = conversation_pb2.ConverseRequest

_ACKNOWLEDGE_S: Final = 0.2
_MAX_AHEAD_S: Final = 1.5
_START_TIMEOUT_S: Final = 10.0
_HANG_UP_TIMEOUT_S: Final = 2.0
_EVENT_CAPACITY: Final = 1024
"""Events that wait for the application; at the shortest chunks 10 s of audio. Beyond, the stream is not read."""
_RESUMABLE: Final = ("INPUT_IDLE", "SLOW_CONSUMER")
"""Not worth trying again as they are, but a resume goes on with the session."""


class Conversation:
    """One session with the agent; an async context manager and an async iterator of its events.

    Entering opens the stream and waits until the session is ready. Iterating ends when the stream has ended with OK,
    after `end_input`. Leaving before that hangs up; leaving by an exception or cancellation cuts the stream.

    Args:
        server: the address, or address and credentials.
        start: formats, options, greeting, history, labels. Formats that are not set are PCM16, of 16 kHz for the user
            and of the player's rate, or else 24 kHz, for the replies. `SessionStart.options` is `SessionOptions`.
        tools: functions of the application that the agent may call, beside those that `start` declares.
        player: plays the replies. Without one the application plays and calls `acknowledge`.
        retry: how patiently a session is started; its delays are also those between attempts to resume.
        clock: monotonic seconds.

    Raises:
        InvalidOptionError: the player's rate is not that of the replies, or the address is none.
        UnsupportedAudioFormatError: a format that this client does not send, or cannot play.
    """

    def __init__(
        self,
        server: str | Server,
        start: conversation_pb2.SessionStart | None = None,
        *,
        tools: Iterable[ClientTool | ToolFunction] = (),
        player: Player | None = None,
        retry: Retry | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = Server.at(server) if isinstance(server, str) else server
        self._start = with_formats(start, player.sample_rate_hz if player is not None else None)
        self._toolbox = Toolbox(tools, self._answer_unless_over)
        if self._toolbox.declarations:
            self._start.options.tools.tools.extend(self._toolbox.declarations)
        self._chunker = Chunker(self._start.input_audio)
        self._plays = player is not None
        self._journal = Journal(self._start.input_audio.sample_rate_hz)
        self._playback = Playback(player, self._start.reply_audio)
        self._retry = retry if retry is not None else Retry()
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []
        self._group = asyncio.TaskGroup()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue(_EVENT_CAPACITY)
        self._left_behind: deque[Stream] = deque()
        self._ready = asyncio.Event()
        self._unsent = asyncio.Event()
        self._room = asyncio.Event()
        self._playing = asyncio.Event()
        self._is_attached = False
        self._has_ended = False
        self._error: ApiError | None = None
        self._told: conversation_pb2.PlaybackAck | None = None
        self._began_s = 0.0
        self.session = events_pb2.SessionStarted()
        """The latest `session_started`: id, formats, options in force, capabilities."""

    # Entering and leaving.

    async def __aenter__(self) -> Self:
        """Start the session.

        Raises:
            ApiError: it cannot be started.
        """
        await self._group.__aenter__()
        try:
            self._tasks.append(self._group.create_task(self._run()))
            self._tasks.append(self._group.create_task(self._acknowledge_playing()))
            await self._ready.wait()
            if self._error is not None:
                raise self._error
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and not self._has_ended:
                await self._hang_up()
        finally:
            await self._close()

    async def _hang_up(self) -> None:
        """End the session at once and properly; one that cannot be reached expires by itself."""
        with suppress(TimeoutError, ApiError, ConversationEndedError):
            async with asyncio.timeout(_HANG_UP_TIMEOUT_S):
                await self.interrupt()
                await self.end_input()
                async for _ in self:
                    pass

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._toolbox.close()
        # The group is told of no error: it would wrap the application's own into a group of errors.
        await self._group.__aexit__(None, None, None)

    # What the client says.

    async def send_audio(self, audio: ArrayLike | bytes) -> None:
        """Send what the user says, silence too; waits while that would be too far ahead of real time.

        Args:
            audio: bytes in the session's format, whole samples; or [N] samples, floating point in [-1, 1] or integers.

        Raises:
            AudioError: not whole samples, or not finite.
            ApiError, ConversationEndedError: the conversation is over.
        """
        self._check_open()
        if isinstance(audio, bytes):
            check_whole(audio, self._start.input_audio)
            data = audio
        else:
            data = encode(audio, self._start.input_audio)
        rate_hz = self._start.input_audio.sample_rate_hz
        for chunk in self._chunker.push(data):
            end_sample = chunk.first_sample + len(chunk.data) // self._chunker.sample_bytes
            ahead_s = end_sample / rate_hz - (self._clock() - self._began_s)
            if ahead_s > _MAX_AHEAD_S:
                await self._retry.sleep(ahead_s - _MAX_AHEAD_S)
            while self._journal.unsent_samples > KEPT_AUDIO_S * rate_hz:
                self._room.clear()
                await self._room.wait()
            self._check_open()
            self._journal.add_audio(chunk, end_sample)
            self._unsent.set()

    async def send_text(
        self,
        text: str,
        *,
        timing: conversation_pb2.ReplyTiming.ValueType = conversation_pb2.REPLY_TIMING_INTERRUPT,
    ) -> str:
        """Write the user's turn.

        Returns:
            The request id, which `reply_started` repeats.

        Raises:
            ApiError, ConversationEndedError: the conversation is over.
        """
        turn = conversation_pb2.TextTurn(request_id=uuid.uuid4().hex, text=text, timing=timing)
        self._send(_Request(text_turn=turn))
        return turn.request_id

    async def say(
        self,
        text: str,
        *,
        timing: conversation_pb2.ReplyTiming.ValueType = conversation_pb2.REPLY_TIMING_INTERRUPT,
    ) -> str:
        """Have the agent say something, word for word. Returns and raises as `send_text`."""
        said = conversation_pb2.Say(request_id=uuid.uuid4().hex, text=text, timing=timing)
        self._send(_Request(say=said))
        return said.request_id

    async def interrupt(self) -> None:
        """Stop the reply under way; the player is silent at once. Raises as `send_text`."""
        self._check_open()
        heard = self._playback.stop()
        message = conversation_pb2.Interrupt(playback=heard if self._plays else None)
        self._send(_Request(interrupt=message), turn=self._playback.turn)

    async def end_turn(self) -> None:
        """End the user's turn now, without waiting for silence. Raises as `send_text`."""
        self._flush_audio()
        self._send(_Request(end_of_turn=conversation_pb2.EndOfTurn()))

    async def end_input(self) -> None:
        """Say that the user says nothing more; the stream ends when the last reply was heard. Raises as `send_text`."""
        self._flush_audio()
        self._send(_Request(end_of_input=conversation_pb2.EndOfInput()))

    async def update(self, options: options_pb2.SessionOptions) -> None:
        """Change options; `session_updated` or an `error` event answers. Raises as `send_text`."""
        self._send(_Request(session_update=conversation_pb2.SessionUpdate(options=options)))

    async def answer(self, result: tools_pb2.ToolResult) -> None:
        """Answer a `tool_call_requested` of a function that is none of `tools`. Raises as `send_text`."""
        self._send(_Request(tool_result=result))

    async def _answer_unless_over(self, result: tools_pb2.ToolResult) -> None:
        with suppress(ApiError, ConversationEndedError):
            await self.answer(result)

    async def acknowledge(self, turn: int, played_samples: int, *, underruns: int = 0) -> None:
        """Tell what was heard, for an application that plays by itself. Raises as `send_text`.

        Args:
            turn: of the reply.
            played_samples: position in the reply of the next sample to be heard.
            underruns: how often its player has run dry within the reply.
        """
        self._send(_Request(playback_ack=self._playback.acknowledge(turn, played_samples, underruns)))

    def _flush_audio(self) -> None:
        self._check_open()
        for chunk in self._chunker.flush():
            self._journal.add_audio(chunk, self._chunker.position_samples)

    def _send(self, message: _Request, *, turn: int = 0) -> None:
        self._check_open()
        self._journal.add(message, turn=turn)
        self._unsent.set()

    def _check_open(self) -> None:
        if self._error is not None:
            raise self._error
        if self._has_ended:
            raise ConversationEndedError("the conversation has ended")

    # What the server says.

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event.

        Raises:
            ApiError: the stream failed and could not be resumed.
            StopAsyncIteration: the conversation has ended.
        """
        event = None if self._has_ended and self._events.empty() else await self._events.get()
        if event is not None:
            return event
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    async def _handle(self, event: Event) -> None:
        is_news = self._journal.received(event)
        match event.WhichOneof("event"):
            case None:
                return  # of a newer server
            case "session_started":
                await self._on_session_started(event.session_started)
            case "reply_started":
                self._playback.begin(event.turn)
            case "reply_resumed":
                self._playback.begin(event.turn, event.reply_resumed.first_sample)
            case "reply_audio":
                self._playback.play(event.turn, event.reply_audio.audio)
                self._playing.set()
            case "tool_call_requested":
                if is_news and event.tool_call_requested.client_runs:
                    self._toolbox.begin(event.tool_call_requested.call, self._group)
            case "tool_call_ended":
                self._toolbox.end(event.tool_call_ended.call_id)
            case "interrupted":
                self._told = None
                self._acknowledge(self._playback.clear())
        if is_news:
            await self._events.put(event)

    async def _on_session_started(self, started: events_pb2.SessionStarted) -> None:
        if not self._ready.is_set():
            self._began_s = self._clock()
        self.session = started
        self._is_attached = True
        self._ready.set()
        self._unsent.set()
        while self._left_behind:
            await self._left_behind.popleft().close()

    # Playing.

    async def _acknowledge_playing(self) -> None:
        """Tell what was heard, every 200 ms while the player plays and when it has run dry."""
        while self._plays:
            await self._playing.wait()
            self._playing.clear()
            while (remaining_s := self._playback.remaining_s()) > 0:
                await self._retry.sleep(min(remaining_s, _ACKNOWLEDGE_S))
                self._acknowledge(self._playback.heard())
            self._acknowledge(self._playback.heard())

    def _acknowledge(self, heard: conversation_pb2.PlaybackAck | None) -> None:
        # Without a stream nothing is told: the resume does.
        if heard is not None and heard != self._told and self._plays and self._is_attached:
            self._told = heard
            self._send(_Request(playback_ack=heard))

    # The streams of the session, one after another.

    async def _run(self) -> None:
        try:
            await self._hold_streams()
        except ApiError as error:
            self._error = error
        finally:
            self._has_ended = True
            self._is_attached = False
            self._ready.set()
            self._room.set()
            while self._left_behind:
                await self._left_behind.popleft().close()
        await self._events.put(None)

    async def _hold_streams(self) -> None:
        """Hold stream after stream until one ends with OK.

        Raises:
            ApiError: the session cannot be started, or not be resumed within its window.
        """
        first = _Request(start=self._start)
        attempt, lost_s = 0, self._clock()
        while True:
            outcome = await self._hold_stream(first)
            if outcome is None:
                return
            if self._is_attached:
                attempt, lost_s = 0, self._clock()
            self._is_attached = False
            attempt += 1
            if isinstance(outcome, ApiError):
                await self._wait_for_next(outcome, attempt, lost_s)
            if self._journal.session_id:
                heard = self._playback.will_be_heard()
                first = _Request(resume=self._journal.resume(heard))

    async def _wait_for_next(self, error: ApiError, attempt: int, lost_s: float) -> None:
        """Wait before the next stream, or raise the error that ended the last one."""
        if not self._journal.session_id:
            await self._retry.wait(error, attempt)
            return
        window_s = self.session.capabilities.resume_window_ms / 1000
        delay_s = self._retry.delay_s(error, attempt)
        is_resumable = error.retryable or error.reason in _RESUMABLE
        if not is_resumable or self._clock() - lost_s + delay_s > window_s:
            raise error
        await self._retry.sleep(delay_s)

    async def _hold_stream(self, first: _Request) -> ApiError | events_pb2.GoAway | None:
        """Hold one stream to its end: None with OK, the error it failed with, or the server's wish to be left."""
        outcome: ApiError | events_pb2.GoAway | None = None
        stream = Stream(self._server)
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self._write(stream, first))
                outcome = await self._read(stream.call)
                writer.cancel()
        finally:
            if isinstance(outcome, events_pb2.GoAway):
                self._left_behind.append(stream)  # it stays open until the next one has taken over
            else:
                await stream.close()
        return outcome

    async def _read(self, call: ConverseCall) -> ApiError | events_pb2.GoAway | None:
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                event = await call.read()
            while isinstance(event, Event):
                await self._handle(event)
                if event.HasField("go_away") and event.go_away.resumable:
                    return event.go_away
                event = await call.read()
        except TimeoutError:
            return ApiError(
                f"{self._server.address} did not start the session within {_START_TIMEOUT_S:.0f} s",
                code=grpc.StatusCode.UNAVAILABLE,
            )
        except grpc.aio.AioRpcError as error:
            return failure(error)
        except StepAudioError as error:  # reply audio that cannot be read
            return ApiError(f"{self._server.address}: {error}", code=grpc.StatusCode.INTERNAL)
        return None

    async def _write(self, stream: Stream, first: _Request) -> None:
        """Send what is said until the stream ends, which its reader tells of."""
        is_open = await stream.begin(first)
        while is_open:
            message = self._journal.next() if self._is_attached else None
            if message is None:
                message = await self._wait_for_unsent()
            if message is not None:
                is_open = await stream.write(message)
                self._room.set()

    async def _wait_for_unsent(self) -> _Request | None:
        """Wait until something is said; what keeps the stream if nothing is for long."""
        idle_ms = self.session.capabilities.limits.max_idle_ms
        self._unsent.clear()
        try:
            async with asyncio.timeout(idle_ms / 2000 if idle_ms else None):
                await self._unsent.wait()
        except TimeoutError:
            self._journal.count_unlisted()
            return _Request(session_update=conversation_pb2.SessionUpdate())
        return None
