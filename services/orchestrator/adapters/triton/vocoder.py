"""The vocoder room: speech tokens to samples, chunk by chunk; the stream's state travels with each request.

    push(tokens) ── voice, state 0, tokens ──> samples, state 1
    push(tokens) ── voice, state 1, tokens ──> samples, state 2        any server can make any chunk

How many tokens are pushed at a time is the caller's policy; the room gathers what is too little for a pass.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.orchestrator.adapters.triton.asking import ask_again, context_of
from services.orchestrator.ports.rooms import NO_HASTE, Haste, PreparedVoice, Work
from services.shared.errors import InvalidInputError
from services.shared.triton.client import TritonClient
from services.shared.triton.specs import STREAM_STATE, TOKEN_TO_WAVE, WAVE_RATE_HZ
from services.shared.triton.tensors import Array

_STATE_NAMES: Final = tuple(spec.name for spec in STREAM_STATE)
_FRAME_MS: Final = 256 / WAVE_RATE_HZ * 1000
"""One frame of mel."""


class TritonSpeechStream:
    """One stream; it changes only when a push succeeds, so one that failed can be made again."""

    def __init__(self, client: TritonClient, voice: PreparedVoice, *, seed: int, work: Work, timeout_s: float) -> None:
        """Args: as `TritonVocoder`; nothing is sent yet."""
        self._client = client
        self._voice: dict[str, object] = {
            "voice_tokens": np.array(voice.tokens, np.int32),
            "voice_mel": voice.mel,
            "voice_embedding": voice.embedding,
        }
        if voice.sings:
            self._voice["music"] = [True]
        self._seed = seed
        self._context = context_of(work)
        self._timeout_s = timeout_s
        self._state: dict[str, Array] = {}
        self._has_ended = False

    async def push(self, tokens: Sequence[int], *, last: bool, haste: Haste = NO_HASTE) -> NDArray[np.float32]:
        """Voice the next tokens.

        Args:
            tokens: codec values, perhaps none with `last`.
            last: no tokens follow; everything that is left comes out.
            haste: how soon the samples are needed, and what may be saved on them.

        Returns:
            float32 [N] at 22.05 kHz, perhaps empty while tokens gather.

        Raises:
            InvalidInputError: the stream has had its last tokens, or the room refuses them.
            MissingFileError: the voice sings, and the checkpoint has no vocoder for music.
            RoomUnavailableError, DeadlineExceededError: also after another try; push the same tokens again.
        """
        if self._has_ended:
            raise InvalidInputError("the stream has had its last tokens; open another one")
        request = {
            **self._voice,
            **self._state,
            "speech_tokens": np.array(tokens, np.int32),
            "seed": [self._seed],
            "last": [last],
            **_saved_on(haste),
        }
        context = replace(self._context, slack_ms=haste.slack_ms)
        answer = await ask_again(
            lambda left_s: self._client.infer(TOKEN_TO_WAVE, request, timeout_s=left_s, context=context),
            timeout_s=self._timeout_s,
        )
        self._state = {name: answer[name] for name in _STATE_NAMES}
        self._has_ended = last
        samples: NDArray[np.float32] = answer["pcm"]
        return samples


def _saved_on(haste: Haste) -> dict[str, object]:
    tensors: dict[str, object] = {}
    if haste.flow_steps:
        tensors["flow_steps"] = [haste.flow_steps]
    if haste.first_hop_ms:
        tensors["first_hop_frames"] = [max(1, round(haste.first_hop_ms / _FRAME_MS))]
    return tensors


class TritonVocoder:
    """The vocoder of one checkpoint, on the servers of one pool."""

    def __init__(self, client: TritonClient, *, timeout_s: float) -> None:
        """Args: client: of the pool's servers. timeout_s: for one push, a second try included."""
        self._client = client
        self._timeout_s = timeout_s

    @property
    def sample_rate_hz(self) -> int:
        """Of the samples it makes."""
        return WAVE_RATE_HZ

    def open(self, voice: PreparedVoice, *, seed: int, work: Work) -> TritonSpeechStream:
        """Begin a stream; nothing is sent yet.

        Args:
            voice: who speaks; without a clip, tokens and mel are empty and the embedding alone counts.
            seed: of all noise, 0 .. 2^63 - 1; the same tokens, voice and seed give the same samples.
            work: whose work it is.
        """
        return TritonSpeechStream(self._client, voice, seed=seed, work=work, timeout_s=self._timeout_s)
