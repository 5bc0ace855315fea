"""Tokens to wave as a Triton model: stateless, and chunks of several callers in one pass.

A stream's state travels with its requests, so any instance can make any chunk:

    tokens, voice, seed            ──> pcm, state_*
    tokens, voice, seed, state_*   ──> pcm, state_*
    last                           ──> the rest
    music                          ──> the same by the vocoder for music, which a checkpoint may have beside the other
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch

from services.shared.codec import CODEC_SIZE
from services.shared.errors import CancelledRequestError, InvalidInputError, MissingFileError
from services.shared.paths import MUSIC_VOCODER_FOLDER, TTS_FOLDER, VOCODER_FOLDER
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
from services.vocoder.vocoder import Vocoder, load_vocoder
from services.vocoder.voice import VoiceFeatures
from services.vocoder.wanted import while_wanted

_STATE_NAMES: Final = tuple(spec.name for spec in STREAM_STATE)
_WARM_UP_TOKENS: Final = 50
_SPEAKER_SIZE: Final = 192


class TokenToWaveRoom(Room):
    """The flow and HiFT of a vocoder folder, and of the one for music where it was downloaded."""

    spec = TOKEN_TO_WAVE

    def load(self, settings: RoomSettings) -> None:
        """Read the networks."""
        torch.set_num_threads(settings.threads)
        folder = settings.checkpoints / TTS_FOLDER
        self._music_folder = folder / MUSIC_VOCODER_FOLDER
        self._speech = _load(folder / VOCODER_FOLDER, settings)
        self._music = _load(self._music_folder, settings) if self._music_folder.is_dir() else None
        self._audio = self.metrics.counter(MODEL_AUDIO)

    def warm_up(self) -> None:
        """Speak some tokens with a voice that has no clip."""
        for vocoder in (self._speech, self._music):
            if vocoder is not None:
                self._warm_up(vocoder)

    def _warm_up(self, vocoder: Vocoder) -> None:
        tokens = np.arange(_WARM_UP_TOKENS) * 97 % CODEC_SIZE
        voice = VoiceFeatures(
            np.zeros(0, np.int64), np.zeros((0, MEL_CHANNELS), np.float32), np.ones(_SPEAKER_SIZE, np.float32)
        )
        samples, _ = vocoder.chunk(tokens, voice, vocoder.initial_state(0), final=True)
        wanted = len(vocoder.wave(tokens, voice, seed=0))
        self.expect(len(samples) == wanted, f"{len(samples)} samples in chunks where the whole has {wanted}")
        self.expect(bool(np.isfinite(samples).all() and np.abs(samples).max() > 0), "a silent or broken wave")

    @while_wanted
    def execute(self, requests: list[Any]) -> list[Any]:
        """Make the chunks of these requests, together where their lengths allow."""
        asked = [self._read(request) for request in requests]
        valid = [entry for entry in asked if not isinstance(entry, Exception)]
        chunks: dict[int, _Made] = {}
        with self.traced(*(entry.context for entry in valid)), self.metrics.one_pass(len(valid)):
            for vocoder in (self._speech, self._music):
                mine = [entry for entry in valid if entry.vocoder is vocoder]
                made = _make(vocoder, [entry.push for entry in mine]) if vocoder is not None else []
                chunks.update(zip(map(id, mine), made, strict=True))
        return [
            self._answer(request, entry if isinstance(entry, Exception) else chunks[id(entry)])
            for request, entry in zip(requests, asked, strict=True)
        ]

    def _read(self, request: Any) -> "_Asked | Exception":
        try:
            asked = read_request(self.spec, request)
            self.epochs.admit(asked.context)
            tensors = asked.tensors
            voice = VoiceFeatures(tensors["voice_tokens"], tensors["voice_mel"], tensors["voice_embedding"])
            vocoder = self._for_music() if asked.flag("music") else self._speech
            push = Push(
                tensors["speech_tokens"],
                voice,
                _state(vocoder, asked),
                asked.flag("last"),
                steps=asked.number("flow_steps"),
                first_hop_frames=asked.number("first_hop_frames"),
            )
            return _Asked(vocoder, push, asked.context)
        except Exception as error:  # noqa: BLE001 - whatever went wrong is this request's answer, and no other's
            return error

    def _for_music(self) -> Vocoder:
        if self._music is None:
            raise MissingFileError(
                f"{self._music_folder} is missing, so nothing can be rapped or hummed; download it or leave out the tag"
            )
        return self._music

    def _answer(self, request: Any, chunk: "_Made") -> Any:
        if not isinstance(chunk, Exception) and request.is_cancelled():
            chunk = CancelledRequestError("the caller has gone")
        if isinstance(chunk, Exception):
            self.metrics.ended(outcome(chunk))
            return refuse(chunk)
        samples, state = chunk
        self._audio.increment(len(samples) / SAMPLE_RATE_HZ)
        self.metrics.ended("ok")
        return respond(self.spec, {"pcm": samples, **write_state(state)})


_Made: TypeAlias = tuple[Array, StreamState] | Exception
"""A chunk with the stream's next state, or what went wrong with it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A request that can be worked on."""

    vocoder: Vocoder
    push: Push
    context: RequestContext


def _load(folder: Path, settings: RoomSettings) -> Vocoder:
    return load_vocoder(
        folder,
        device=settings.device,
        dtype=getattr(torch, settings.dtype),
        stream_settings=StreamSettings(first_steps=settings.first_flow_steps),
        graphs=graph_settings(settings),
    )


def _make(vocoder: Vocoder, pushes: list[Push]) -> list[_Made]:
    try:
        return list(vocoder.chunks(pushes)) if pushes else []
    except Exception as error:  # noqa: BLE001 - the process and later requests outlive a pass that failed
        return [error for _ in pushes]


def _state(vocoder: Vocoder, asked: RoomRequest) -> StreamState:
    seed = asked.number("seed")
    assert seed is not None  # required by the spec
    given = [name for name in _STATE_NAMES if name in asked.tensors]
    if not given:
        return vocoder.initial_state(seed)
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
