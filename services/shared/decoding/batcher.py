"""The continuous batcher: many requests on one Step1, each joining and leaving between two steps.

    slots    0 ────────── decoding ────────── d │ d: the one prompt that is being read │ … free

Decoding requests sit in the slots 0..d-1 and advance together, one token a step. One waiting prompt at a time is read
behind them, piece by piece, so that a long prompt does not hold up the others for more than one piece. When a request
leaves, the last decoding one moves into its slot: the slots in use stay side by side, and a step reads them as one
view. Nothing of a request depends on its neighbours: pieces are cut by the request's own length, every row attends to
its own slot, and choices use the request's own random numbers.

The released system drops the last token of every reply, also where the reply was cut short and that token was no end
mark; here a stop id is left out and nothing else is.
"""

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from services.shared.decoding.engine import RequestId, StepOutput
from services.shared.decoding.limits import RequestLimits
from services.shared.decoding.sampling import TokenChooser, choose_tokens
from services.shared.errors import GenerationError, InvalidOptionError
from services.shared.nn.step1 import Step1
from services.shared.sampling import FinishReason, SamplingParams

_PREFILL_BUDGET_TOKENS: Final = 512
"""Prompt tokens after which a step reads no further piece: it bounds how long running requests wait for new ones."""


@dataclass(slots=True, eq=False)
class _Request:
    id: RequestId
    prompt_ids: list[int]
    chooser: TokenChooser
    tokens_left: int
    due_s: float
    last_id: int = -1  # the newest token, which the next step reads; none before the prompt is read


class ContinuousBatcher:
    """An `Engine` on plain torch (see `engine.py` for what its methods promise).

    Not safe for use from several threads at once.
    """

    def __init__(self, model: Step1, *, max_batch: int) -> None:
        """Args: model: shared by all requests, never changed. max_batch: requests that run at the same time.

        Raises:
            InvalidOptionError: max_batch is below 1.
        """
        if max_batch < 1:
            raise InvalidOptionError(f"max_batch is {max_batch}; give at least 1")
        self._model = model
        self._limits = RequestLimits(model.config.vocab_size, model.config.max_seq_len)
        self._max_batch = max_batch
        self._cache = model.new_cache(max_batch)
        self._waiting: deque[_Request] = deque()
        self._decoding: list[_Request] = []  # by slot
        self._reading: _Request | None = None  # in the slot after those
        self._cancelled: list[RequestId] = []  # to be reported
        self._mailboxes: dict[RequestId, deque[StepOutput]] = {}
        self._submitted = 0

    @property
    def has_work(self) -> bool:
        """Whether `step` has anything to do or to report."""
        return bool(self._waiting or self._decoding or self._reading or self._cancelled)

    def submit(self, prompt_ids: Sequence[int], params: SamplingParams, *, due_s: float = 0.0) -> RequestId:
        """Queue a request: see `Engine.submit`."""
        prompt, tokens = self._limits.admit(prompt_ids, params)
        self._submitted += 1
        request_id = RequestId(self._submitted)
        chooser = TokenChooser(params, prompt, self._limits.vocab_size)
        self._waiting.append(_Request(request_id, prompt, chooser, tokens, due_s))
        return request_id

    def cancel(self, request_id: RequestId) -> None:
        """End a request now: see `Engine.cancel`."""
        if self._reading is not None and self._reading.id == request_id:
            self._cache.lengths[len(self._decoding)] = 0
            self._reading = None
        elif any(request.id == request_id for request in self._waiting):
            self._waiting = deque(request for request in self._waiting if request.id != request_id)
        else:
            slot = next((slot for slot, request in enumerate(self._decoding) if request.id == request_id), None)
            if slot is None:
                return
            self._leave(slot)
        self._cancelled.append(request_id)

    def step(self) -> list[StepOutput]:
        """Advance every running request by at most one token: see `Engine.step`."""
        outputs = [StepOutput(request_id, (), FinishReason.CANCELLED) for request_id in self._cancelled]
        self._cancelled.clear()
        outputs += self._decode()
        outputs += self._read_prompts()
        for output in outputs:
            if (mailbox := self._mailboxes.get(output.request_id)) is not None:
                mailbox.append(output)
        return outputs

    def generate(self, prompt_ids: Sequence[int], params: SamplingParams) -> Generator[int, None, FinishReason]:
        """Generate one reply; any number of these may be consumed in turn, and they run in one batch.

        The request is submitted with the first `next`. Closing the iterator cancels it.

        Returns:
            Iterator over the tokens, as they come; its value is the reason it ended.

        Raises:
            StepAudioError: what `submit` refuses, and what went wrong with the request.
        """
        request_id = self.submit(prompt_ids, params)
        mailbox = self._mailboxes[request_id] = deque()
        try:
            while True:
                while not mailbox:
                    self.step()
                output = mailbox.popleft()
                yield from output.ids
                if output.error is not None:
                    raise output.error
                if output.finish_reason is not None:
                    return output.finish_reason
        finally:
            del self._mailboxes[request_id]
            self.cancel(request_id)

    def _decode(self) -> list[StepOutput]:
        """Read the newest token of every decoding request, and choose the next."""
        if not self._decoding:
            return []
        newest = torch.tensor([[request.last_id] for request in self._decoding])
        return self._choose(list(self._decoding), self._model.extend(newest, self._cache))

    def _read_prompts(self) -> list[StepOutput]:
        """Read pieces of waiting prompts within the budget; prompts read to their end gain their first token."""
        joined, logits = [], []
        tokens_read = 0
        while tokens_read < _PREFILL_BUDGET_TOKENS and (request := self._next_to_read()) is not None:
            slot = len(self._decoding)
            start = self._cache.lengths[slot]
            piece = request.prompt_ids[start : start + self._model.chunk_tokens(start)]
            after_piece = self._model.extend(torch.tensor([piece]), self._cache, slot)
            tokens_read += len(piece)
            if start + len(piece) == len(request.prompt_ids):
                self._decoding.append(request)
                self._reading = None
                joined.append(request)
                logits.append(after_piece)
        return self._choose(joined, torch.cat(logits)) if joined else []

    def _next_to_read(self) -> _Request | None:
        if self._reading is None and self._waiting and len(self._decoding) < self._max_batch:
            self._reading = min(self._waiting, key=lambda request: (request.due_s, request.id))
            self._waiting.remove(self._reading)
        return self._reading

    def _choose(self, requests: list[_Request], logits: Tensor) -> list[StepOutput]:
        """Give each of `requests` its next token from its row of `logits` [B, V]; those that end leave."""
        outputs = []
        for request, token in zip(requests, choose_tokens(logits, [r.chooser for r in requests]), strict=True):
            output = self._take(request, token)
            outputs.append(output)
            if output.finish_reason is not None:
                self._leave(self._decoding.index(request), damaged=output.error is not None)
        return outputs

    @staticmethod
    def _take(request: _Request, token: int | GenerationError) -> StepOutput:
        if isinstance(token, GenerationError):
            return StepOutput(request.id, (), FinishReason.ERROR, token)
        if token in request.chooser.params.stop_ids:
            return StepOutput(request.id, (), FinishReason.STOP)
        request.last_id = token
        request.tokens_left -= 1
        return StepOutput(request.id, (token,), None if request.tokens_left else FinishReason.LENGTH)

    def _leave(self, slot: int, *, damaged: bool = False) -> None:
        """Free a decoding slot and close the gap; the damaged slot of a failed request is also zeroed."""
        if damaged:
            self._cache.clear(slot)
        self._cache.lengths[slot] = 0
        last = len(self._decoding) - 1
        if slot != last:
            self._decoding[slot] = self._decoding[last]
            self._cache.move(last, slot)
        self._decoding.pop()
        if self._reading is not None:
            self._cache.move(last + 1, last)
