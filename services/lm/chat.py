"""The chat model as the rest of the house sees it: a conversation in, the text of a reply out.

It joins the tokenizer, the prompt and the batcher of one checkpoint folder. Which voice speaks the reply, and what
stays in a history that grows too long, is decided elsewhere.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from services.shared.decoding import ContinuousBatcher, load_language_model
from services.shared.errors import EmptyReplyError
from services.shared.prompt.chat import Message, SpeechContent, build_asr_prompt, build_chat_prompt
from services.shared.prompt.chat.call_marks import CALL_END, CALL_START
from services.shared.sampling import ASR_PARAMS, CHAT_PARAMS, SamplingParams, with_checkpoint_defaults
from services.shared.text import TextTokenizer

_MAX_BATCH: Final = 8


class ChatLm:
    """Replies and transcribes; several replies may be consumed in turn and then run in one batch.

    Attributes:
        tokenizer: the checkpoint's.
        params: how a reply is generated unless its caller says otherwise.
        stop_ids: <|EOT|> and the ids that config.json names as the end; they end every reply.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        batcher: ContinuousBatcher,
        *,
        eos_ids: Sequence[int],
        params: SamplingParams = CHAT_PARAMS,
    ) -> None:
        self.tokenizer = tokenizer
        self.params = params
        self.stop_ids = tuple(sorted({tokenizer.eot_id, *eos_ids}))
        self._batcher = batcher

    def reply(
        self, messages: Sequence[Message], params: SamplingParams | None = None, *, with_calls: bool = False
    ) -> Iterator[str]:
        """Give the assistant's next turn as it is generated.

        Args:
            messages: the conversation; see `build_chat_prompt`.
            params: how to generate, `self.params` if left out; the model's own stop ids are added to them.
            with_calls: leave function calls, with their marks, among the words; nobody runs them here.

        Returns:
            Pieces of text, none empty. Closing the iterator ends the work for it.

        Raises:
            InvalidInputError: a prompt that cannot be built, or is too long for the model.
            EmptyReplyError: the model stopped before the first character.
        """
        is_empty = True
        for text in self._stream(build_chat_prompt(self.tokenizer, messages), params or self.params, with_calls):
            is_empty = False
            yield text
        if is_empty:
            raise EmptyReplyError("the model ended its reply before the first character; try again with another seed")

    def transcribe(self, tokens: Sequence[int] | NDArray[np.int64], params: SamplingParams = ASR_PARAMS) -> str:
        """Write down what was said.

        Args:
            tokens: codec values [T], interleaved 2:3.
            params: how to generate.

        Returns:
            The transcript; empty where the model heard nothing.

        Raises:
            InvalidInputError: no tokens, values outside the codec, or more of them than the model takes.
        """
        return "".join(self._stream(build_asr_prompt(self.tokenizer, SpeechContent(tokens)), params))

    def _stream(self, prompt_ids: Sequence[int], params: SamplingParams, with_calls: bool = False) -> Iterator[str]:
        params = replace(params, stop_ids=tuple({*params.stop_ids, *self.stop_ids}))
        decoder, in_call = self.tokenizer.stream_decoder(), False
        marks = {self.tokenizer.id_of(mark): mark for mark in (CALL_START, CALL_END)}
        for token in self._batcher.generate(prompt_ids, params):
            if token in marks:
                in_call = marks[token] == CALL_START
                if with_calls:
                    yield marks[token]
            elif (with_calls or not in_call) and (text := decoder.push([token])):
                yield text
        if text := decoder.finish():
            yield text


def load_chat_lm(
    folder: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    max_batch: int = _MAX_BATCH,
) -> ChatLm:
    """Load Step-Audio-Chat.

    Args:
        folder: config.json, safetensors, tokenizer.model, tokenizer_config.json, perhaps generation_config.json.
        device: where the network runs.
        dtype: in what precision.
        max_batch: replies that run at the same time.

    Raises:
        CheckpointError: the folder cannot be used; the message names the file.
    """
    model = load_language_model(folder, device=device, dtype=dtype, max_batch=max_batch)
    params = with_checkpoint_defaults(CHAT_PARAMS, folder)
    return ChatLm(model.tokenizer, model.batcher, eos_ids=model.config.eos_ids, params=params)
