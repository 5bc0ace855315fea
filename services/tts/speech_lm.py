"""The speech model as a room: one clause of text and a voice in, whole groups of codec values out, as they are decoded.

What the model is asked and when its answer counts as speech is `services.shared.prompt.speech.decoding`'s business; how
ids are decoded, batched and cancelled is the batcher's, and what the groups sound like the vocoder's.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

import torch

from services.shared.codec.alignment import Repairs
from services.shared.decoding import load_language_model
from services.shared.prompt.speech import PromptTokenizer, VoicePrompt
from services.shared.prompt.speech.decoding import SpeechGroups, SpeechParams, plan_speech, speech_defaults
from services.shared.sampling import FinishReason, SamplingParams


class Decoder(Protocol):
    """What decodes ids; the continuous batcher does."""

    def generate(self, prompt_ids: Sequence[int], params: SamplingParams) -> Generator[int, None, FinishReason]:
        """Yield the ids that follow the prompt, without the stop id, and return why they ended; closing cancels."""
        ...


class SpeechStream(Iterator[list[int]]):
    """The groups of one clause, five codec values each, in the order of speech. Closing it cancels the decoding."""

    def __init__(self, ids: Generator[int, None, FinishReason], *, audio_offset: int) -> None:
        self._speech = SpeechGroups(audio_offset=audio_offset)
        self._groups = self._align(ids)

    @property
    def repairs(self) -> Repairs:
        """What was mended so far."""
        return self._speech.repairs

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
        with closing(ids):
            while True:
                try:
                    token_id = next(ids)
                except StopIteration as end:
                    reason = end.value
                    break
                yield from self._speech.push([token_id])
        self._speech.finish(reason)


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
        self._max_seq_len = max_seq_len

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
        plan = plan_speech(self._tokenizer, text, voice, params or self.params, max_seq_len=self._max_seq_len)
        ids = self._decoder.generate(plan.prompt_ids, plan.sampling)
        return SpeechStream(ids, audio_offset=self._tokenizer.audio_offset)


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
        model.batcher, model.tokenizer, max_seq_len=model.config.max_seq_len, params=speech_defaults(folder)
    )
