"""What a model can be asked for, checked before any engine sees it: the same refusals from every engine."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.shared.errors import InvalidInputError, InvalidOptionError, PromptTooLongError, UnknownTokenError
from services.shared.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The bounds of one served model.

    Attributes:
        vocab_size: ids are below it.
        context_tokens: prompt and reply together.
    """

    vocab_size: int
    context_tokens: int

    def admit(self, prompt_ids: Sequence[int], params: SamplingParams) -> tuple[list[int], int]:
        """Check a request.

        Args:
            prompt_ids: [T] ids. A prompt must leave room for one token; where it leaves less than max_new_tokens, the
                reply ends there with FinishReason.LENGTH.
            params: how to generate.

        Returns:
            The prompt, and how many tokens may follow it.

        Raises:
            InvalidInputError: the prompt is empty or holds no integers.
            UnknownTokenError: an id of the prompt is outside the vocabulary.
            PromptTooLongError: the prompt leaves no room.
            InvalidOptionError: an id of `params` is outside the vocabulary.
        """
        prompt = self._checked(prompt_ids)
        room = self.context_tokens - len(prompt)
        if room < 1:
            raise PromptTooLongError(
                f"a prompt of {len(prompt)} tokens and one to follow exceed the model's max_seq_len of "
                f"{self.context_tokens}"
            )
        highest = max((*params.stop_ids, params.allowed_ids.end - 1 if params.allowed_ids else 0))
        if highest >= self.vocab_size:
            raise InvalidOptionError(f"stop_ids or allowed_ids name {highest}; the vocabulary has {self.vocab_size}")
        return prompt, min(params.max_new_tokens, room)

    def _checked(self, prompt_ids: Sequence[int]) -> list[int]:
        try:
            ids = np.asarray(prompt_ids)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"the prompt is no list of ids ({error})") from error
        if ids.ndim != 1 or ids.size == 0:
            raise InvalidInputError(f"the prompt has shape {list(ids.shape)}; give ids [T] with at least one token")
        if ids.dtype.kind not in "iu":
            raise InvalidInputError(f"the prompt holds {ids.dtype}, not integers")
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= self.vocab_size:
            raise UnknownTokenError(f"token {low if low < 0 else high} is outside the vocabulary of {self.vocab_size}")
        prompt: list[int] = ids.tolist()
        return prompt
