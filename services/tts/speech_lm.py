"""The speech model as a room: one clause of text and a voice in, whole groups of codec values out, as they are decoded.

Decides how long a clause may last before it counts as a loop, and which slips of the model are mended; how ids are
decoded, batched and cancelled is the batcher's business, and what the groups sound like the vocoder's.
Source: the released tts.py (`generate`: temperature 0.7, top-k 50 by the library's default, repetition-aware, 8192 ids
in all, stop at EOT); unlike it, a stream that was cut short keeps its last id, and the stream is checked.
"""

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import torch

from services.shared.codec import TOKEN_RATE_HZ
from services.shared.codec.alignment import Repairs, SpeechAligner
from services.shared.decoding import load_language_model
from services.shared.errors import (
    EmptyReplyError,
    GenerationError,
    NothingToSpeakError,
    PromptTooLongError,
)
from services.shared.prompt.speech import PromptTokenizer, VoicePrompt, build_prompt, speakable
from services.shared.prompt.speech.speech_length import estimate_speech_s, max_speech_s
from services.shared.sampling import FinishReason, SamplingParams, with_checkpoint_defaults

MAX_TOTAL_TOKENS: Final = 8192
"""Prompt and speech together, as released; the checkpoint's own limit counts when it is lower."""


@dataclass(frozen=True, slots=True)
class SpeechParams:
    """How one clause is decoded.

    Attributes:
        temperature: of the sampling; 0 takes the likeliest token.
        top_k: likeliest tokens that are sampled from.
        top_p: probability that the tokens sampled from reach together.
        seed: the same seed gives the same speech.
    """

    temperature: float = 0.7
    top_k: int = 50
    top_p: float = 1.0
    seed: int = 0


class Decoder(Protocol):
    """What decodes ids; the continuous batcher does."""

    def generate(self, prompt_ids: Sequence[int], params: SamplingParams) -> Generator[int, None, FinishReason]:
        """Yield the ids that follow the prompt, without the stop id, and return why they ended; closing cancels."""
        ...


class SpeechStream(Iterator[list[int]]):
    """The groups of one clause, five codec values each, in the order of speech. Closing it cancels the decoding."""

    def __init__(self, ids: Generator[int, None, FinishReason], *, audio_offset: int) -> None:
        self._aligner = SpeechAligner(audio_offset)
        self._groups = self._align(ids)

    @property
    def repairs(self) -> Repairs:
        """What was mended so far."""
        return self._aligner.repairs

    def __iter__(self) -> "SpeechStream":
        return self

    def __next__(self) -> list[int]:
        """Return the next group.

        Raises:
            TextInSpeechError, MisalignedSpeechError: the stream is no speech.
            EmptyReplyError: the model ended before the first group.
            GenerationError: it did not end within the longest speech of the text.
        """
        return next(self._groups)

    def close(self) -> None:
        """Stop decoding; no group comes any more."""
        self._groups.close()

    def _align(self, ids: Generator[int, None, FinishReason]) -> Generator[list[int], None, None]:
        groups = 0
        with closing(ids):
            while True:
                try:
                    token_id = next(ids)
                except StopIteration as end:
                    reason = end.value
                    break
                for group in self._aligner.push([token_id]):
                    groups += 1
                    yield group
        self._aligner.finish()
        seen = self.repairs.seen
        if reason is FinishReason.LENGTH:
            raise GenerationError(
                f"the speech did not end within {seen / float(TOKEN_RATE_HZ):.1f} s, the longest for this text; "
                "another seed may do better"
            )
        if groups == 0:
            raise EmptyReplyError(f"the speech model ended after {seen} tokens; another seed may do better")


class SpeechLm:
    """The speech model of one checkpoint.

    Args:
        decoder: decodes ids of the model.
        tokenizer: the checkpoint's text tokenizer.
        max_seq_len: the model's longest sequence in tokens.
        params: how a clause is decoded unless its caller says otherwise.
    """

    def __init__(
        self, decoder: Decoder, tokenizer: PromptTokenizer, *, max_seq_len: int, params: SpeechParams | None = None
    ) -> None:
        self.params = params or SpeechParams()
        self._decoder = decoder
        self._tokenizer = tokenizer
        self._max_total_tokens = min(MAX_TOTAL_TOKENS, max_seq_len)

    def speak(self, text: str, voice: VoicePrompt, params: SpeechParams | None = None) -> SpeechStream:
        """Speak one clause; cut longer text with `split_clauses` first.

        Args:
            text: the clause, its style tags in front.
            voice: who speaks.
            params: how to decode, `self.params` if left out.

        Returns:
            A stream of whole groups; decoding goes on as it is read.

        Raises:
            NothingToSpeakError: the text has no speakable character.
            PromptTooLongError: voice and text leave too little room for the speech.
        """
        params = params or self.params
        if not speakable(text):
            raise NothingToSpeakError("the text has no speakable character; give at least one letter or number")
        prompt_ids = build_prompt(self._tokenizer, text, voice)
        max_tokens = self._speech_budget(text, len(prompt_ids))
        sampling = SamplingParams(
            max_new_tokens=max_tokens,
            temperature=params.temperature,
            top_k=params.top_k,
            top_p=params.top_p,
            seed=params.seed,
            stop_ids=(self._tokenizer.eot_id,),
            repetition_aware=True,
        )
        ids = self._decoder.generate(prompt_ids, sampling)
        return SpeechStream(ids, audio_offset=self._tokenizer.audio_offset)

    def _speech_budget(self, text: str, prompt_tokens: int) -> int:
        room = self._max_total_tokens - prompt_tokens
        if room < _tokens(estimate_speech_s(text)) + 1:
            raise PromptTooLongError(
                f"the voice and the text take {prompt_tokens} of {self._max_total_tokens} tokens and leave no room for "
                "the speech; use a shorter clip or cut the text into clauses"
            )
        return min(room, _tokens(max_speech_s(text)))


def load_speech_lm(
    folder: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32, max_batch: int = 8
) -> SpeechLm:
    """Load the speech model of a Step-Audio-TTS-3B folder.

    Args:
        folder: config.json, *.safetensors, tokenizer.model, tokenizer_config.json, perhaps generation_config.json.
        device: where the model runs.
        dtype: in which it computes.
        max_batch: clauses decoded together at most.

    Raises:
        CheckpointError: a file is missing, damaged or of a wrong shape; the message names it.
    """
    model = load_language_model(folder, device=device, dtype=dtype, max_batch=max_batch)
    return SpeechLm(
        model.batcher, model.tokenizer, max_seq_len=model.config.max_seq_len, params=_default_params(folder)
    )


def _default_params(folder: str | Path) -> SpeechParams:
    released = SpeechParams()
    defaults = with_checkpoint_defaults(
        SamplingParams(max_new_tokens=1, temperature=released.temperature, top_k=released.top_k, top_p=released.top_p),
        folder,
    )
    return SpeechParams(temperature=defaults.temperature, top_k=defaults.top_k, top_p=defaults.top_p)


def _tokens(seconds: float) -> int:
    return math.ceil(seconds * float(TOKEN_RATE_HZ))
