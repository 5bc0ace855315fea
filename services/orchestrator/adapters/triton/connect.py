"""All rooms from the addresses of their pools and what is known of the checkpoint.

    async with connect_rooms(addresses, read_checkpoint(folder)) as connected:
        await connected.check()
        connected.rooms

An address is host:port. Behind a name with several addresses (a headless service), requests of the stateless models
and replies go to each server in turn; an utterance stays on the server that it was begun on.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Final, Self

from services.orchestrator.adapters.triton.chat import TritonChatModel
from services.orchestrator.adapters.triton.checkpoint import Checkpoint
from services.orchestrator.adapters.triton.servers import Servers
from services.orchestrator.adapters.triton.speech import TritonSpeechModel
from services.orchestrator.adapters.triton.tokenizer import TritonTokenizer
from services.orchestrator.adapters.triton.vocoder import TritonVocoder
from services.orchestrator.adapters.triton.voices import PreparedOnce, TritonVoiceMaker
from services.orchestrator.ports.rooms import Rooms
from services.shared.errors import StepAudioError
from services.shared.triton.client import TritonClient
from services.shared.triton.probe import probe_pool
from services.shared.triton.specs import POOLS


@dataclass(frozen=True, slots=True)
class RoomAddresses:
    """host:port of each pool's gRPC service."""

    tokenizer: str
    lm: str
    tts: str
    vocoder: str


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """Longest times in seconds; a call that takes longer ends with DeadlineExceededError.

    Attributes:
        hear_s: for one request to the tokenizer.
        reply_s: for a whole reply of the chat model.
        transcribe_s: for a whole transcript.
        speak_s: for one clause of the speech model.
        voice_s: for one push of the vocoder.
        clip_s: for the features of a voice's clip.
    """

    hear_s: float = 10.0
    reply_s: float = 120.0
    transcribe_s: float = 60.0
    speak_s: float = 60.0
    voice_s: float = 10.0
    clip_s: float = 20.0


_DEFAULT_LIMITS: Final = RoomLimits()


class ConnectedRooms:
    """The rooms of one process; close them, or use them as an async context manager.

    Attributes:
        rooms: behind their ports.
    """

    def __init__(self, addresses: RoomAddresses, checkpoint: Checkpoint, limits: RoomLimits) -> None:
        """Make the clients, on a running event loop; nothing is sent yet. Args: as `connect_rooms`."""
        clients = {pool: TritonClient(getattr(addresses, pool)) for pool in POOLS}
        tokenizer = TritonTokenizer(Servers(addresses.tokenizer), timeout_s=limits.hear_s)
        voices = TritonVoiceMaker(tokenizer, clients["vocoder"], timeout_s=limits.clip_s)
        self._clients: Mapping[str, TritonClient] = MappingProxyType(clients)
        self._tokenizer = tokenizer
        self._built_in = PreparedOnce(checkpoint.voices, voices)
        self.rooms = Rooms(
            tokenizer=tokenizer,
            chat=TritonChatModel(
                clients["lm"],
                checkpoint.chat_tokenizer,
                checkpoint.chat_config,
                checkpoint.chat_params,
                reply_timeout_s=limits.reply_s,
                transcribe_timeout_s=limits.transcribe_s,
                call_form=checkpoint.call_form,
            ),
            speech=TritonSpeechModel(
                clients["tts"],
                checkpoint.speech_tokenizer,
                checkpoint.speech_config,
                checkpoint.speech_params,
                timeout_s=limits.speak_s,
            ),
            vocoder=TritonVocoder(clients["vocoder"], timeout_s=limits.voice_s),
            voices=voices,
            built_in=self._built_in,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def check(self, *, timeout_s: float) -> Mapping[str, StepAudioError | None]:
        """Ask every model a small question and look at its answer.

        It is real work of the rooms, well under a second on a CPU: ask at the start and now and then, not for every
        health probe. Of several servers of a pool one is asked.

        Args:
            timeout_s: for each request.

        Returns:
            For each pool what is wrong with it, None where it works.
        """
        found = await asyncio.gather(*(self._check(pool, timeout_s) for pool in POOLS))
        return dict(zip(POOLS, found, strict=True))

    async def close(self) -> None:
        """End what is under way and close every connection."""
        await self._built_in.close()
        await self._tokenizer.close()
        for client in self._clients.values():
            await client.close()

    async def _check(self, pool: str, timeout_s: float) -> StepAudioError | None:
        try:
            await probe_pool(self._clients[pool], pool, timeout_s=timeout_s)
        except StepAudioError as error:
            return error
        return None


def connect_rooms(
    addresses: RoomAddresses, checkpoint: Checkpoint, limits: RoomLimits = _DEFAULT_LIMITS
) -> ConnectedRooms:
    """Connect to all rooms; call it on a running event loop.

    Args:
        addresses: of the pools; names are looked up when they are first used, so the servers may still be starting.
        checkpoint: the one that the servers run, from `read_checkpoint`.
        limits: longest times.
    """
    return ConnectedRooms(addresses, checkpoint, limits)
