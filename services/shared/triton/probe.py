"""Whether a pool really works: an inference whose answer is checked. A server's own ready flag is never trusted.

A server that runs NumPy 2 says it is ready and answers every request with empty tensors and status OK.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from services.shared.codec import CODEC_SIZE, GROUP_TOKENS
from services.shared.errors import StepAudioError
from services.shared.triton.client import TritonClient
from services.shared.triton.specs import SPEAKER_ENCODER, SPEECH_TOKENIZER, STEP1_CHAT, STEP1_TTS, TOKEN_TO_WAVE
from services.shared.triton.tensors import ModelSpec
from services.shared.triton.wire import SequencePlace

_RATE_HZ: Final = 16_000
_IDS: Final = 3
_TOKENS: Final = 10


async def probe_pool(client: TritonClient, pool: str, *, timeout_s: float) -> None:
    """Ask every model of a pool once and check the answers.

    Raises:
        RoomUnavailableError: the server is not there yet.
        StepAudioError: it is there, and an answer is wrong.
    """
    await _PROBES[pool](client, timeout_s)


async def _tokenizer(client: TritonClient, timeout_s: float) -> None:
    tone = 0.3 * np.sin(np.arange(_RATE_HZ, dtype=np.float32) * np.float32(0.1))
    place = SequencePlace(f"probe-{uuid.uuid4().hex}", start=True, end=True)
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


_PROBES: Final[Mapping[str, Callable[[TritonClient, float], Awaitable[None]]]] = MappingProxyType(
    {
        SPEECH_TOKENIZER.pool: _tokenizer,
        STEP1_CHAT.pool: _generation(STEP1_CHAT),
        STEP1_TTS.pool: _generation(STEP1_TTS),
        TOKEN_TO_WAVE.pool: _vocoder,
    }
)


def _expect(holds: bool, spec: ModelSpec, what: str) -> None:
    if not holds:
        raise StepAudioError(f"{spec.name} answered its first request with {what}; see its log")
