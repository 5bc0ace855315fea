"""What the flow needs to know of a voice, as a Triton model; asked once when a voice is made."""

from typing import Any, Final

import numpy as np
import torch

from services.shared.audio.pcm import as_mono
from services.shared.errors import AudioTooLongError
from services.shared.paths import TTS_FOLDER, VOCODER_FOLDER
from services.shared.serving.ingress import outcome, read_request, refuse, respond
from services.shared.serving.room import Room
from services.shared.serving.settings import RoomSettings
from services.shared.triton.specs import SPEAKER_ENCODER
from services.vocoder.speaker import analyse_clip, load_speaker

_WARM_UP_RATE_HZ: Final = 16_000
_MAX_CLIP_S: Final = 60
"""Twice the longest clip of a voice; more would only take time."""


class SpeakerEncoderRoom(Room):
    """campplus.onnx of a vocoder folder, and the prompt's mel."""

    spec = SPEAKER_ENCODER

    def load(self, settings: RoomSettings) -> None:
        """Read the network."""
        torch.set_num_threads(settings.threads)
        self._speaker = load_speaker(settings.checkpoints / TTS_FOLDER / VOCODER_FOLDER, threads=settings.threads)

    def warm_up(self) -> None:
        """Analyse one second of a tone."""
        tone = np.sin(np.arange(_WARM_UP_RATE_HZ, dtype=np.float32) * np.float32(0.1))
        mel, embedding = analyse_clip(self._speaker, tone, _WARM_UP_RATE_HZ)
        self.expect(bool(np.isfinite(mel).all()) and mel.shape[1] > 0, "no mel")
        self.expect(bool(np.isfinite(embedding).all() and embedding.any()), "an empty embedding")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Analyse the clips of these requests."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            asked = read_request(self.spec, request)
            samples, rate_hz = as_mono(asked.tensors["pcm"]), asked.number("sample_rate_hz") or 0
            if len(samples) > _MAX_CLIP_S * rate_hz > 0:
                raise AudioTooLongError(f"the clip is longer than {_MAX_CLIP_S} s; send the part that is the voice")
            with self.metrics.one_pass(1):
                mel, embedding = analyse_clip(self._speaker, samples, rate_hz)
            self.metrics.ended("ok")
            return respond(self.spec, {"voice_mel": mel[0], "voice_embedding": embedding})
        except Exception as error:  # noqa: BLE001 - whatever went wrong is this request's answer, and no other's
            self.metrics.ended(outcome(error))
            return refuse(error)
