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
from services.shared.codec import CODEC_SIZE, GROUP_TOKENS
from services.shared.errors import DeadlineExceededError, RoomUnavailableError, StepAudioError
from services.shared.triton.client import TritonClient
from services.shared.triton.specs import SPEAKER_ENCODER, SPEECH_TOKENIZER, STEP1_CHAT, STEP1_TTS, TOKEN_TO_WAVE
from services.shared.triton.tensors import ModelSpec
from services.shared.triton.wire import SequencePlace

_RATE_HZ: Final = 16_000
_RETRY_S: Final = 0.2
_IDS: Final = 3
_TOKENS: Final = 10
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
        await _MODELS[name](client, timeout_s)


async def _redis(address: str, timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        await probe_redis(f"redis://{address}")


async def _orchestrator(address: str, timeout_s: float) -> None:
    wanted = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM16, sample_rate_hz=_RATE_HZ)
    request = speech_pb2.SynthesizeRequest(text=_WORD, audio=wanted)
    data = b""
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            async for answer in speech_pb2_grpc.SpeechServiceStub(channel).Synthesize(request, timeout=timeout_s):
                data += answer.audio.audio.data
        except grpc.aio.AioRpcError as error:
            kind = RoomUnavailableError if error.code() is grpc.StatusCode.UNAVAILABLE else StepAudioError
            raise kind(f"{address} answered {error.code().name}: {error.details()}") from error
    samples = np.frombuffer(data, np.int16) / 2**15
    if not len(samples) or np.abs(samples).max() < _AUDIBLE:
        raise StepAudioError(f"{address} spoke a word as {len(samples)} samples of silence")


async def _tokenizer(client: TritonClient, timeout_s: float) -> None:
    tone = 0.3 * np.sin(np.arange(_RATE_HZ, dtype=np.float32) * np.float32(0.1))
    place = SequencePlace(f"probe-{time.monotonic_ns()}", start=True, end=True)
    answer = await client.infer(SPEECH_TOKENIZER, {"pcm": tone}, timeout_s=timeout_s, sequence=place)
    tokens = answer["speech_tokens"]
    _expect(len(tokens) > 0 and len(tokens) % GROUP_TOKENS == 0, SPEECH_TOKENIZER, f"{len(tokens)} tokens")
    _expect(bool((tokens >= 0).all() and (tokens < CODEC_SIZE).all()), SPEECH_TOKENIZER, "tokens outside the codec")


def _generation(spec: ModelSpec) -> Callable[[TritonClient, float], Awaitable[None]]:
    async def ask(client: TritonClient, timeout_s: float) -> None:
        request = {"input_ids": [1, 2, 3], "max_new_tokens": [_IDS], "temperature": [0.0]}
        ids: list[int] = []
        async for answer in client.stream(spec, request, timeout_s=timeout_s):
            ids += answer["output_ids"].tolist()
        _expect(len(ids) == _IDS and min(ids) >= 0, spec, f"the ids {ids}")

    return ask


async def _vocoder(client: TritonClient, timeout_s: float) -> None:
    tone = 0.3 * np.sin(np.arange(_RATE_HZ, dtype=np.float32) * np.float32(0.1))
    clip = {"pcm": tone, "sample_rate_hz": [_RATE_HZ]}
    voice = await client.infer(SPEAKER_ENCODER, clip, timeout_s=timeout_s)
    _expect(bool(voice["voice_embedding"].any()), SPEAKER_ENCODER, "an empty embedding")
    tokens = np.arange(_TOKENS)
    request = {**voice, "voice_tokens": tokens, "speech_tokens": tokens, "seed": [0], "last": [True]}
    samples = (await client.infer(TOKEN_TO_WAVE, request, timeout_s=timeout_s))["pcm"]
    _expect(len(samples) > 0 and bool(np.isfinite(samples).all() and samples.any()), TOKEN_TO_WAVE, "no sound")


_MODELS: Final[dict[str, Callable[[TritonClient, float], Awaitable[None]]]] = {
    SPEECH_TOKENIZER.pool: _tokenizer,
    STEP1_CHAT.pool: _generation(STEP1_CHAT),
    STEP1_TTS.pool: _generation(STEP1_TTS),
    TOKEN_TO_WAVE.pool: _vocoder,
}
_PROBES: Final[dict[str, Callable[[str, float], Awaitable[None]]]] = {
    "redis": _redis,
    ORCHESTRATOR: _orchestrator,
}


def _expect(holds: bool, spec: ModelSpec, what: str) -> None:
    if not holds:
        raise StepAudioError(f"{spec.name} answered its first request with {what}; see its log")
