"""`stepaudio talk`: a conversation by microphone, recordings or written turns, with its events as they come.

    recording ▒▒▒▒▒▒▒▒▒ silence ··············································· next recording ▒▒▒▒▒▒▒
              in real time, and silence after it as of an open microphone, until the turn has ended

With `fast` a recording goes as fast as the API permits, its turn is ended at once, and replies count as heard when they
arrive.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protos.gen.stepaudio.v1 import conversation_pb2
from services.shared.errors import EmptyAudioError
from stepaudio.conversation import Conversation, Event
from stepaudio.devices import Loudspeaker
from stepaudio.errors import ApiError
from stepaudio.formats import Samples
from stepaudio.players import WavPlayer
from stepaudio.server import Server
from stepaudio.sources import Microphone, paced, read_speech, silence
from stepaudio.stream import DEFAULT_INPUT_RATE_HZ
from stepaudio.timeline import HEADER, Timeline

_MAX_SILENCE_S: Final = 10.0
"""Silence that ends any turn, whatever the options: without a reply by then, no speech was heard."""


@dataclass(frozen=True, slots=True)
class Script:
    """What the user says.

    Attributes:
        recordings: one turn each, before the texts; neither of the two is the microphone.
        texts: one turn each.
        fast: sends as fast as the API permits.
    """

    recordings: Sequence[Path] = ()
    texts: Sequence[str] = ()
    fast: bool = False


class _Turns:
    """How many turns have begun and ended, and the last failure among them."""

    def __init__(self) -> None:
        self.begun = 0
        self.failure: ApiError | None = None
        self._open: set[int] = set()
        self._changed = asyncio.Event()

    def follow(self, event: Event) -> None:
        """Learn from an event."""
        match event.WhichOneof("event"):
            case "reply_started" | "reply_resumed" if event.turn not in self._open:
                self.begun += 1
                self._open.add(event.turn)
            case "turn_ended":
                self._open.discard(event.turn)
                if event.turn_ended.HasField("error"):
                    self.failure = ApiError.from_status(event.turn_ended.error)
            case "error":
                self.failure = ApiError.from_status(event.error.status)
        self._changed.set()

    def are_over(self, before: int) -> bool:
        """Whether some turn has begun since, and all have ended."""
        return (self.begun > before and not self._open) or self.failure is not None

    async def until_over(self, before: int) -> None:
        """Wait until `are_over`."""
        await self.until(lambda: self.are_over(before))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()


async def talk(
    server: Server,
    start: conversation_pb2.SessionStart,
    script: Script,
    *,
    output: Path | None,
    tell: Callable[[str], None],
) -> None:
    """Hold one conversation to its end.

    Args:
        server: where.
        start: formats and options.
        script: what the user says.
        output: the wav file to write; None is the loudspeaker.
        tell: prints a line.

    Raises:
        StepAudioError, ClientError: a recording is wrong, a device is absent, the server or a turn failed.
    """
    speeches = [read_speech(path, DEFAULT_INPUT_RATE_HZ) for path in script.recordings]
    turns, timeline = _Turns(), Timeline()
    with _player(output, start.reply_audio.sample_rate_hz, script) as player:
        async with Conversation(server, start, player=player) as conversation:
            tell(HEADER)
            async with asyncio.TaskGroup() as group:
                group.create_task(_speak_all(conversation, script, speeches, turns))
                async for event in conversation:
                    turns.follow(event)
                    line = timeline.line(event)
                    if line is not None:
                        tell(line)
    if turns.failure is not None:
        raise turns.failure
    if isinstance(player, WavPlayer):
        tell(f"wav: {output} ({player.written_samples / player.sample_rate_hz:.2f} s at {player.sample_rate_hz} Hz)")


def _player(
    output: Path | None, sample_rate_hz: int, script: Script
) -> AbstractContextManager[WavPlayer] | AbstractContextManager[Loudspeaker]:
    if output is None:
        return Loudspeaker(sample_rate_hz)
    return WavPlayer(output, sample_rate_hz, clock=None if script.fast else time.monotonic)


async def _speak_all(conversation: Conversation, script: Script, speeches: Sequence[Samples], turns: _Turns) -> None:
    if not speeches and not script.texts:
        await _speak_live(conversation)
        return
    for path, speech in zip(script.recordings, speeches, strict=True):
        before = turns.begun
        if script.fast:
            await conversation.send_audio(speech)
            await conversation.end_turn()
            await _await_reply(turns, before, path)
        else:
            await _speak_as_open_microphone(conversation, speech, turns, path)
    for text in script.texts:
        before = turns.begun
        await conversation.send_text(text)
        await turns.until_over(before)
    await conversation.end_input()


async def _await_reply(turns: _Turns, before: int, path: Path) -> None:
    try:
        async with asyncio.timeout(_MAX_SILENCE_S):
            await turns.until(lambda: turns.begun > before or turns.failure is not None)
    except TimeoutError:
        raise EmptyAudioError(f"{path}: no speech was heard, and so nothing answered") from None
    await turns.until_over(before)


async def _speak_as_open_microphone(conversation: Conversation, speech: Samples, turns: _Turns, path: Path) -> None:
    before = turns.begun
    async for piece in paced(speech, DEFAULT_INPUT_RATE_HZ):
        await conversation.send_audio(piece)
    silence_s = 0.0
    while not turns.are_over(before):
        if turns.begun == before and silence_s > _MAX_SILENCE_S:
            raise EmptyAudioError(f"{path}: no speech was heard, and so nothing answered")
        async for piece in paced(silence(0.2, DEFAULT_INPUT_RATE_HZ), DEFAULT_INPUT_RATE_HZ):
            await conversation.send_audio(piece)
        silence_s += 0.2


async def _speak_live(conversation: Conversation) -> None:
    """Send what the microphone hears until Ctrl-C."""
    with Microphone(DEFAULT_INPUT_RATE_HZ) as microphone:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, microphone.stop)
        try:
            async for samples in microphone:
                await conversation.send_audio(samples)
        finally:
            loop.remove_signal_handler(signal.SIGINT)
    await conversation.interrupt()
    await conversation.end_input()
