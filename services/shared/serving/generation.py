"""The Triton class of both language models: a prompt of ids in, a stream of ids out, any number of callers at once.

Triton's coroutines, the engine and the metrics share one event loop, hence one thread. What ids mean, and which stop
ids end a reply, is the caller's knowledge.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, ClassVar, Final

import numpy as np
import torch
import triton_python_backend_utils as pb

from services.shared.decoding import ContinuousBatcher, Engine, EngineRunner
from services.shared.decoding.engine import StepOutput
from services.shared.errors import CancelledRequestError
from services.shared.nn.step1 import Step1, load_step1
from services.shared.sampling import FinishReason, IdRange, SamplingParams
from services.shared.serving.ingress import RoomRequest, outcome, read_request, refuse, respond
from services.shared.serving.room import Room
from services.shared.serving.settings import RoomSettings
from services.shared.telemetry.catalogue import MODEL_TOKENS, OPEN_REQUESTS

_WARM_UP_TOKENS: Final = 4
_NO_IDS: Final = np.zeros(0, np.int32)


class GenerationRoom(Room):
    """A language model behind the engine port.

    Attributes:
        folder: of the checkpoint's folder that holds the model.
    """

    folder: ClassVar[str]

    def load(self, settings: RoomSettings) -> None:
        """Load the checkpoint and put the torch batcher before it."""
        torch.set_num_threads(settings.threads)
        self._model: Step1 = load_step1(
            settings.checkpoints / self.folder, device=settings.device, dtype=getattr(torch, settings.dtype)
        )
        self._engine: Engine = ContinuousBatcher(self._model, max_batch=settings.max_batch)
        self._runner = EngineRunner(self._engine, around_step=self.metrics.one_pass)
        self._open = self.metrics.gauge(OPEN_REQUESTS)
        self._tokens = self.metrics.counter(MODEL_TOKENS)

    def warm_up(self) -> None:
        """Generate a few tokens for a short prompt."""
        params = SamplingParams(max_new_tokens=_WARM_UP_TOKENS, temperature=0)
        request_id = self._engine.submit([1, 2, 3], params)
        ids: list[int] = []
        while self._engine.has_work:
            for output in self._engine.step():
                self.expect(output.error is None, f"the error {output.error}")
                self.expect(output.request_id == request_id, "ids of a request that was never made")
                ids += output.ids
        self.expect(len(ids) == _WARM_UP_TOKENS, f"{len(ids)} tokens where {_WARM_UP_TOKENS} were asked for")
        self.expect(all(0 <= token < self._model.config.vocab_size for token in ids), "ids outside the vocabulary")

    async def execute(self, requests: list[Any]) -> None:
        """Answer each request with a stream of responses."""
        await asyncio.gather(*(self._answer(request) for request in requests))

    async def _answer(self, request: Any) -> None:
        sender = request.get_response_sender()
        self._open.set(self._runner.open_requests + 1)
        try:
            asked = read_request(self.spec, request)
            self.epochs.admit(asked.context)

            def is_gone() -> bool:
                return bool(sender.is_cancelled()) or self.epochs.is_stale(asked.context)

            stream = self._runner.stream(asked.tensors["input_ids"].tolist(), _params(asked), is_gone=is_gone)
            with self.traced(asked.context):
                async with aclosing(stream):
                    await self._send(sender, stream, ids_per_response=asked.number("ids_per_response") or 1)
            self.metrics.ended("ok")
        except Exception as error:  # noqa: BLE001 - whatever went wrong is this request's answer, and no other's
            sender.send(refuse(error), flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            self.metrics.ended(outcome(error))
        finally:
            self._open.set(self._runner.open_requests)

    async def _send(self, sender: Any, stream: AsyncGenerator[StepOutput, None], *, ids_per_response: int) -> None:
        gathered: list[int] = []
        async for output in stream:
            gathered += output.ids
            self._tokens.increment(len(output.ids))
            if output.error is not None:
                raise output.error
            if output.finish_reason is FinishReason.CANCELLED:
                raise CancelledRequestError("the caller has gone, or its session has moved on")
            if output.finish_reason is not None:
                sender.send(
                    self._response(gathered, output.finish_reason), flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL
                )
            elif len(gathered) >= ids_per_response:
                sender.send(self._response(gathered, ""))
                gathered = []

    def _response(self, ids: Sequence[int], finish_reason: str) -> Any:
        output_ids = np.array(ids, np.int32) if ids else _NO_IDS
        return respond(self.spec, {"output_ids": output_ids, "finish_reason": [finish_reason.encode()]})


def _params(asked: RoomRequest) -> SamplingParams:
    """The request's sampling parameters; what it leaves out has the defaults of SamplingParams.

    Raises:
        InvalidOptionError: a value is outside its range.
    """
    names = ("max_new_tokens", "temperature", "top_k", "top_p", "seed")
    given: dict[str, Any] = {name: asked.number(name) for name in names if name in asked.tensors}
    if "stop_ids" in asked.tensors:
        given["stop_ids"] = tuple(asked.tensors["stop_ids"].tolist())
    if "allowed_ids" in asked.tensors:
        first, end = asked.tensors["allowed_ids"].tolist()
        given["allowed_ids"] = IdRange(first, end)
    return SamplingParams(repetition_aware=asked.flag("repetition_aware"), **given)
