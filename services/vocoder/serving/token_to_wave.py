"""Tokens to wave as a Triton model: stateless, and chunks of several callers in one pass.

A stream's state travels with its requests, so any instance can make any chunk:

    tokens, voice, seed            ──> pcm, state_*
    tokens, voice, seed, state_*   ──> pcm, state_*
    last                           ──> the rest
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch

from services.shared.codec import CODEC_SIZE
from services.shared.errors import CancelledRequestError, InvalidInputError
from services.shared.paths import TTS_FOLDER, VOCODER_FOLDER
from services.shared.serving.graphs import graph_settings
from services.shared.serving.ingress import RoomRequest, outcome, read_request, refuse, respond
from services.shared.serving.room import Room
from services.shared.serving.settings import RoomSettings
from services.shared.telemetry.catalogue import MODEL_AUDIO
from services.shared.triton.context import RequestContext
from services.shared.triton.specs import STREAM_STATE, TOKEN_TO_WAVE
from services.shared.triton.tensors import Array
from services.vocoder.config import MEL_CHANNELS, SAMPLE_RATE_HZ
from services.vocoder.hift.stream import HiftState
from services.vocoder.streaming import Push, StreamSettings, StreamState
from services.vocoder.vocoder import load_vocoder
from services.vocoder.voice import VoiceFeatures

_STATE_NAMES: Final = tuple(spec.name for spec in STREAM_STATE)
_WARM_UP_TOKENS: Final = 50
_SPEAKER_SIZE: Final = 192


class TokenToWaveRoom(Room):
    """The flow and HiFT of a vocoder folder."""

    spec = TOKEN_TO_WAVE

    def load(self, settings: RoomSettings) -> None:
        """Read the networks."""
        torch.set_num_threads(settings.threads)
        folder = settings.checkpoints / TTS_FOLDER / VOCODER_FOLDER
        self._vocoder = load_vocoder(
            folder,
            device=settings.device,
            dtype=getattr(torch, settings.dtype),
            stream_settings=StreamSettings(first_steps=settings.first_flow_steps),
            graphs=graph_settings(settings),
        )
        self._audio = self.metrics.counter(MODEL_AUDIO)

    def warm_up(self) -> None:
        """Speak some tokens with a voice that has no clip."""
        tokens = np.arange(_WARM_UP_TOKENS) * 97 % CODEC_SIZE
        voice = VoiceFeatures(
            np.zeros(0, np.int64), np.zeros((0, MEL_CHANNELS), np.float32), np.ones(_SPEAKER_SIZE, np.float32)
        )
        samples, _ = self._vocoder.chunk(tokens, voice, self._vocoder.initial_state(0), final=True)
        wanted = len(self._vocoder.wave(tokens, voice, seed=0))
        self.expect(len(samples) == wanted, f"{len(samples)} samples in chunks where the whole has {wanted}")
        self.expect(bool(np.isfinite(samples).all() and np.abs(samples).max() > 0), "a silent or broken wave")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Make the chunks of these requests, together where their lengths allow."""
        asked = [self._read(request) for request in requests]
        valid = [entry for entry in asked if not isinstance(entry, Exception)]
        with self.traced(*(context for _, context in valid)), self.metrics.one_pass(len(valid)):
            chunks = iter(self._make([push for push, _ in valid]))
        return [
            self._answer(request, entry if isinstance(entry, Exception) else next(chunks))
            for request, entry in zip(requests, asked, strict=True)
        ]

    def _read(self, request: Any) -> tuple[Push, RequestContext] | Exception:
        try:
            asked = read_request(self.spec, request)
            self.epochs.admit(asked.context)
            tensors = asked.tensors
            voice = VoiceFeatures(tensors["voice_tokens"], tensors["voice_mel"], tensors["voice_embedding"])
            push = Push(
                tensors["speech_tokens"],
                voice,
                self._state(asked),
                asked.flag("last"),
                steps=asked.number("flow_steps"),
                first_hop_frames=asked.number("first_hop_frames"),
            )
            return push, asked.context
        except Exception as error:  # noqa: BLE001 - whatever went wrong is this request's answer, and no other's
            return error

    def _make(self, pushes: list[Push]) -> list[tuple[Array, StreamState] | Exception]:
        try:
            return list(self._vocoder.chunks(pushes)) if pushes else []
        except Exception as error:  # noqa: BLE001 - the process and later requests outlive a pass that failed
            return [error for _ in pushes]

    def _answer(self, request: Any, chunk: tuple[Array, StreamState] | Exception) -> Any:
        if not isinstance(chunk, Exception) and request.is_cancelled():
            chunk = CancelledRequestError("the caller has gone")
        if isinstance(chunk, Exception):
            self.metrics.ended(outcome(chunk))
            return refuse(chunk)
        samples, state = chunk
        self._audio.increment(len(samples) / SAMPLE_RATE_HZ)
        self.metrics.ended("ok")
        return respond(self.spec, {"pcm": samples, **write_state(state)})

    def _state(self, asked: RoomRequest) -> StreamState:
        seed = asked.number("seed")
        assert seed is not None  # required by the spec
        given = [name for name in _STATE_NAMES if name in asked.tensors]
        if not given:
            return self._vocoder.initial_state(seed)
        if len(given) < len(_STATE_NAMES):
            raise InvalidInputError(f"of a stream's state only {', '.join(given)} came; send all of it or none")
        return read_state(seed, asked.tensors)


def write_state(state: StreamState) -> dict[str, Array]:
    """A stream's state as tensors; the seed stays with the caller."""
    places = (state.first_token, state.made_frames, state.passes, state.hift.first_frame, state.hift.sent_frames)
    return {
        "state_tokens": state.tokens.astype(np.int32),
        "state_places": np.array(places, np.int64),
        "state_cycles": np.array([state.hift.cycles], np.float64),
        "state_overlap": state.overlap,
        "state_mel": state.hift.mel,
    }


def read_state(seed: int, tensors: Mapping[str, Array]) -> StreamState:
    """The state that `write_state` wrote.

    Raises:
        InvalidInputError: the tensors are no state that this room gave.
    """
    first_token, made_frames, passes, first_frame, sent_frames = tensors["state_places"].tolist()
    mel, overlap, cycles = tensors["state_mel"], tensors["state_overlap"], float(tensors["state_cycles"][0])
    ordered = 0 <= first_frame <= sent_frames <= made_frames and min(first_token, passes) >= 0
    if not ordered or first_frame + mel.shape[1] != made_frames:
        raise InvalidInputError(
            f"state_places {tensors['state_places'].tolist()} do not fit a state_mel of {mel.shape[1]} frames; "
            "send back what the last response gave"
        )
    if not (np.isfinite(mel).all() and np.isfinite(overlap).all() and 0 <= cycles < 1):
        raise InvalidInputError("the stream's state holds NaN or infinity; send back what the last response gave")
    hift = HiftState(mel, first_frame, cycles, sent_frames)
    return StreamState(seed, tensors["state_tokens"].astype(np.int64), first_token, made_frames, overlap, passes, hift)
