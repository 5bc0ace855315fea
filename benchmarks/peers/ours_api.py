"""This server, all of it but the wire: messages of the public API in, messages out; the rest is as in `ours`."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from benchmarks.peers.ours import judge, kept_running, opened
from benchmarks.peers.scene import Journal, Talker
from protos.gen.stepaudio.v1 import audio_pb2, conversation_pb2
from services.orchestrator.ingress.conversation_stream import ConversationStream, StreamPatience

__all__ = ["conversations", "judge"]

Request = conversation_pb2.ConverseRequest
Response = conversation_pb2.ConverseResponse
INBOX_FRAMES: Final = 50


class Conversation:
    """One client."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._inbox: asyncio.Queue[Request] = asyncio.Queue(INBOX_FRAMES)

    async def push(self, frame: bytes) -> None:
        """See the protocol."""
        await self._inbox.put(Request(audio=audio_pb2.AudioChunk(data=frame)))

    async def words_known(self) -> None:
        """The language model hears for itself."""

    async def say(self, text: str) -> None:
        """See the protocol."""
        await self._inbox.put(Request(say=conversation_pb2.Say(request_id="long", text=text)))

    async def requests(self) -> AsyncIterator[Request]:
        """As they come from the client."""
        while True:
            yield await self._inbox.get()

    async def write(self, response: Response) -> None:
        """Take an event."""
        if response.HasField("reply_audio"):
            self._journal.heard(len(response.reply_audio.audio.data))
        elif response.HasField("error"):
            raise RuntimeError(response.error.status.message)


@asynccontextmanager
async def conversations(journals: Sequence[Journal], *, deaf: bool) -> AsyncIterator[Sequence[Talker]]:
    """One for each journal."""
    talkers = [Conversation(journal) for journal in journals]
    async with opened(journals, deaf=deaf) as (streams, shared, profile):
        held = []
        for talker, stream in zip(talkers, streams, strict=True):
            served = ConversationStream(
                stream,
                profile,
                shared.voices,
                patience=StreamPatience(),
                clock=time.monotonic,
            )
            held.append(served.run(talker.requests(), talker.write))
        async with kept_running(held):
            yield talkers
