"""What a clause asks of the speech model, and what of its ids is speech: the same wherever the model runs.

    clause, voice ── plan_speech ──> prompt ids, sampling ── the model ──> ids ── SpeechGroups ──> groups of five

Decides how long a clause may last before it counts as a loop, and when what came is no speech; which slips are mended
is the aligner's business.
Source: the released tts.py (`generate`: temperature 0.7, top-k 50 by the library's default, repetition-aware, 8192 ids
in all, stop at EOT); unlike it, a stream that was cut short keeps its last id, and the stream is checked.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.shared.codec import TOKEN_RATE_HZ
from services.shared.codec.alignment import Repairs, SpeechAligner
from services.shared.errors import EmptyReplyError, GenerationError, NothingToSpeakError, PromptTooLongError
from services.shared.prompt.speech.layout import PromptTokenizer, VoicePrompt, build_prompt
from services.shared.prompt.speech.speech_length import estimate_speech_s, max_speech_s
from services.shared.prompt.speech.tags import speakable
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


def speech_defaults(folder: str | Path) -> SpeechParams:
    """The released parameters as the checkpoint's generation_config.json changes them. Raises CorruptFileError."""
    released = SpeechParams()
    defaults = with_checkpoint_defaults(
        SamplingParams(max_new_tokens=1, temperature=released.temperature, top_k=released.top_k, top_p=released.top_p),
        folder,
    )
    return SpeechParams(temperature=defaults.temperature, top_k=defaults.top_k, top_p=defaults.top_p)


@dataclass(frozen=True, slots=True)
class SpeechPlan:
    """What the model is asked for one clause."""

    prompt_ids: list[int]
    sampling: SamplingParams


def plan_speech(
    tokenizer: PromptTokenizer, text: str, voice: VoicePrompt, params: SpeechParams, *, max_seq_len: int
) -> SpeechPlan:
    """Write down what the model is asked.

    Args:
        tokenizer: the checkpoint's text tokenizer.
        text: the clause, its style tags in front.
        voice: who speaks.
        params: how to decode.
        max_seq_len: the model's longest sequence in tokens.

    Raises:
        NothingToSpeakError: the text has no speakable character.
        PromptTooLongError: voice and text leave too little room for the speech.
    """
    if not speakable(text):
        raise NothingToSpeakError("the text has no speakable character; give at least one letter or number")
    prompt_ids = build_prompt(tokenizer, text, voice)
    sampling = SamplingParams(
        max_new_tokens=_speech_budget(text, len(prompt_ids), min(MAX_TOTAL_TOKENS, max_seq_len)),
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        seed=params.seed,
        stop_ids=(tokenizer.eot_id,),
        repetition_aware=True,
    )
    return SpeechPlan(prompt_ids, sampling)


class SpeechGroups:
    """The ids of one clause, brought to whole groups of five codec values as they come."""

    def __init__(self, *, audio_offset: int) -> None:
        """Args: audio_offset: id of <audio_0>."""
        self._aligner = SpeechAligner(audio_offset)
        self._groups = 0

    @property
    def repairs(self) -> Repairs:
        """What was mended so far."""
        return self._aligner.repairs

    def push(self, ids: Iterable[int]) -> list[list[int]]:
        """Take the next ids; return the groups that became whole.

        Raises:
            TextInSpeechError, MisalignedSpeechError: the stream is no speech.
        """
        groups = self._aligner.push(ids)
        self._groups += len(groups)
        return groups

    def finish(self, reason: FinishReason) -> None:
        """The model has ended.

        Raises:
            EmptyReplyError: before the first group.
            GenerationError: not within the longest speech of the text.
        """
        self._aligner.finish()
        seen = self.repairs.seen
        if reason is FinishReason.LENGTH:
            raise GenerationError(
                f"the speech did not end within {seen / float(TOKEN_RATE_HZ):.1f} s, the longest for this text; "
                "another seed may do better"
            )
        if self._groups == 0:
            raise EmptyReplyError(f"the speech model ended after {seen} tokens; another seed may do better")


def _speech_budget(text: str, prompt_tokens: int, total_tokens: int) -> int:
    room = total_tokens - prompt_tokens
    if room < _tokens(estimate_speech_s(text)) + 1:
        raise PromptTooLongError(
            f"the voice and the text take {prompt_tokens} of {total_tokens} tokens and leave no room for "
            "the speech; use a shorter clip or cut the text into clauses"
        )
    return min(room, _tokens(max_speech_s(text)))


def _tokens(seconds: float) -> int:
    return math.ceil(seconds * float(TOKEN_RATE_HZ))
