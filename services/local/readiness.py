"""Whether a part of the system really works: an answer that is checked. A server's own ready flag is never trusted.

A server that runs NumPy 2 says it is ready and answers every request with empty tensors and status OK.

    a pool         an inference of each of its models       redis   a value that is written and read back
    orchestrator   a word spoken through the public API, and so through the rooms behind it
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import grpc
import numpy as np

from protos.gen.stepaudio.v1 import audio_pb2, speech_pb2, speech_pb2_grpc
from services.local.record import ORCHESTRATOR
from services.local.redis import probe as probe_redis
from services.shared.errors import DeadlineExceededError, RoomUnavailableError, StepAudioError
from services.shared.triton.client import TritonClient
from services.shared.triton.probe import probe_pool

_RATE_HZ: Final = 16_000
_RETRY_S: Final = 0.2
_OWN_CONNECTION: Final = (("grpc.use_local_subchannel_pool", 1),)
"""So that no attempt waits because an earlier one, before the server was there, had failed."""
_WORD: Final = "Yes."
_AUDIBLE: Final = 0.01
"""A word's loudest sample is above this; full scale is 1."""


async def await_ready(name: str, address: str, *, timeout_s: float, check: Callable[[], None]) -> float:
    """Ask a server until it gives a right answer.

    Args:
        name: of a pool, or what it is.
        address: where it answers.
        timeout_s: how long all of it may take.
        check: raises RoomUnavailableError once its process has ended.

    Returns:
        seconds it took.

    Raises:
        RoomUnavailableError: its process ended.
        StepAudioError: its answer is wrong.
        DeadlineExceededError: there was no answer in time.
    """
    started_s = time.monotonic()
    while True:
        check()
        try:
            await probe(name, address, timeout_s=timeout_s)
            return time.monotonic() - started_s
        except RoomUnavailableError as error:
            if time.monotonic() - started_s > timeout_s:
                raise DeadlineExceededError(f"{name} gave no answer in {timeout_s:.0f} s: {error}") from error
        await asyncio.sleep(_RETRY_S)


async def probe(name: str, address: str, *, timeout_s: float) -> None:
    """Ask a server once for each thing that it does, and check the answers.

    Raises:
        RoomUnavailableError: the server is not there yet.
        StepAudioError: it is there, and an answer is wrong.
    """
    if (ask := _PROBES.get(name)) is not None:
        await ask(address, timeout_s)
        return
    async with TritonClient(address) as client:
        await probe_pool(client, name, timeout_s=timeout_s)


async def _redis(address: str, timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        await probe_redis(f"redis://{address}")


async def _orchestrator(address: str, timeout_s: float) -> None:
    wanted = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM16, sample_rate_hz=_RATE_HZ)
    request = speech_pb2.SynthesizeRequest(text=_WORD, audio=wanted)
    data = b""
    async with grpc.aio.insecure_channel(address, options=_OWN_CONNECTION) as channel:
        try:
            async for answer in speech_pb2_grpc.SpeechServiceStub(channel).Synthesize(request, timeout=timeout_s):
                data += answer.audio.audio.data
        except grpc.aio.AioRpcError as error:
            kind = RoomUnavailableError if error.code() is grpc.StatusCode.UNAVAILABLE else StepAudioError
            raise kind(f"{address} answered {error.code().name}: {error.details()}") from error
    samples = np.frombuffer(data, np.int16) / 2**15
    if not len(samples) or np.abs(samples).max() < _AUDIBLE:
        raise StepAudioError(f"{address} spoke a word as {len(samples)} samples of silence")


_PROBES: Final[dict[str, Callable[[str, float], Awaitable[None]]]] = {
    "redis": _redis,
    ORCHESTRATOR: _orchestrator,
}
