"""The speech tokenizer as a Triton model: one sequence an utterance.

    START, pcm ──> tokens       the sequence's state is a value, held here by correlation id
    pcm        ──> tokens
    pcm, peek  ──> all tokens if the utterance ended now; the state stays usable
    END, pcm   ──> the rest     and the state is dropped

A request that fails leaves the state as it was: the caller may go on, or end the sequence. A sequence whose caller died
is dropped here when the scheduler gives it up.
"""

from typing import Any, Final

import numpy as np
import torch
import triton_python_backend_utils as pb

from services.shared.codec import CODEC_SIZE, GROUP_TOKENS
from services.shared.errors import CancelledRequestError, InvalidInputError
from services.shared.paths import TOKENIZER_FOLDER
from services.shared.serving.graphs import graph_settings
from services.shared.serving.ingress import RoomRequest, outcome, read_request, refuse, respond
from services.shared.serving.room import Room
from services.shared.serving.settings import RoomSettings
from services.shared.telemetry.catalogue import MODEL_AUDIO, OPEN_SEQUENCES
from services.shared.triton.config import SEQUENCE_IDLE_S
from services.shared.triton.specs import SPEECH_TOKENIZER
from services.tokenizer.serving.utterances import Utterance, Utterances
from services.tokenizer.speech_tokenizer import SAMPLE_RATE_HZ, Codes, Mode, load_speech_tokenizer

_MAX_REQUEST_SAMPLES: Final = 60 * SAMPLE_RATE_HZ
"""One request must not hold up the utterances beside it for longer than a minute of audio takes."""


class SpeechTokenizerRoom(Room):
    """Step-Audio-Tokenizer."""

    spec = SPEECH_TOKENIZER

    def load(self, settings: RoomSettings) -> None:
        """Read both encoders."""
        torch.set_num_threads(settings.threads)
        self._tokenizer = load_speech_tokenizer(
            settings.checkpoints / TOKENIZER_FOLDER, device=settings.device, graphs=graph_settings(settings)
        )
        self._utterances = Utterances(idle_s=SEQUENCE_IDLE_S)
        self._open = self.metrics.gauge(OPEN_SEQUENCES)
        self._audio = self.metrics.counter(MODEL_AUDIO)

    def warm_up(self) -> None:
        """Tokenize one second of a chord."""
        time_s = np.arange(SAMPLE_RATE_HZ, dtype=np.float32) / SAMPLE_RATE_HZ
        chord = (0.2 * np.sin(2 * np.pi * 220 * time_s) + 0.1 * np.sin(2 * np.pi * 1100 * time_s)).astype(np.float32)
        tokens, _ = self._tokenizer.push(chord, self._tokenizer.initial_state(), final=True)
        self.expect(len(tokens) > 0 and len(tokens) % GROUP_TOKENS == 0, f"{len(tokens)} tokens for a second of audio")
        self.expect(bool((tokens >= 0).all() and (tokens < CODEC_SIZE).all()), "tokens outside the codec")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Advance the sequences of these requests, one after another."""
        self._utterances.drop_idle()
        responses = [self._answer(request) for request in requests]
        self._open.set(len(self._utterances))
        return responses

    def _answer(self, request: Any) -> Any:
        if not _control(request, "READY"):  # the scheduler fills the slots of idle sequences below a busy one
            return respond(self.spec, {"speech_tokens": np.zeros(0, np.int32)})
        name = str(request.correlation_id())
        try:
            asked = read_request(self.spec, request)
            self.epochs.admit(asked.context)
            with self.traced(asked.context), self.metrics.one_pass(1):
                tokens = self._push(name, asked, start=_control(request, "START"), end=_control(request, "END"))
            self._audio.increment(len(asked.tensors["pcm"]) / SAMPLE_RATE_HZ)
            self.metrics.ended("ok")
            return respond(self.spec, {"speech_tokens": tokens.astype(np.int32)})
        except Exception as error:  # noqa: BLE001 - whatever went wrong is this request's answer, and no other's
            if _control(request, "END") or isinstance(error, CancelledRequestError):
                self._utterances.drop(name)
            self.metrics.ended(outcome(error))
            return refuse(error)

    def _push(self, name: str, asked: RoomRequest, *, start: bool, end: bool) -> Codes:
        samples = asked.tensors["pcm"]
        if len(samples) > _MAX_REQUEST_SAMPLES:
            raise InvalidInputError(f"pcm has {len(samples)} samples; send at most {_MAX_REQUEST_SAMPLES} at a time")
        utterance = self._begin(asked) if start else self._utterances.get(name)
        if utterance is None:
            raise InvalidInputError("the utterance is not known here any more; begin it again from its first sample")
        if start:
            self._utterances.put(name, utterance)
        new, state = self._tokenizer.push(samples, utterance.state, final=end)
        tokens = np.concatenate([utterance.tokens, new])
        if end:
            self._utterances.drop(name)
            return tokens if asked.flag("peek") else new
        self._utterances.put(name, Utterance(state, tokens))
        return self._tokenizer.peek(state) if asked.flag("peek") else new

    def _begin(self, asked: RoomRequest) -> Utterance:
        mode: Mode = "segmented" if asked.flag("segmented") else "whole"
        return Utterance.begin(self._tokenizer.initial_state(mode=mode))


def _control(request: Any, name: str) -> bool:
    return bool(pb.get_input_tensor_by_name(request, name).as_numpy().flat[0])
