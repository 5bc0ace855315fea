"""The Triton class of both language models: a prompt of ids in, a stream of ids out, any number of callers at once.

Triton's coroutines and the metrics share one event loop, hence one thread; the engine is torch on the same loop, or
vLLM behind its own. What ids mean, and which stop ids end a reply, is the caller's knowledge.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import Any, ClassVar, Final

import numpy as np
import torch
import triton_python_backend_utils as pb

from services.shared.decoding.engine import StepOutput
from services.shared.errors import CancelledRequestError
from services.shared.sampling import FinishReason, IdRange, SamplingParams
from services.shared.serving.engines import open_engine
from services.shared.serving.ingress import RoomRequest, outcome, read_request, refuse, respond
from services.shared.serving.room import Room
from services.shared.serving.settings import RoomSettings
from services.shared.step1_config import read_step1_config
from services.shared.telemetry.catalogue import MODEL_TOKENS, OPEN_REQUESTS

_WARM_UP_TOKENS: Final = 4
_REPORT_INTERVAL_S: Final = 1.0
_NO_IDS: Final = np.zeros(0, np.int32)


class GenerationRoom(Room):
    """A language model behind the engine port.

    Attributes:
        folder: of the checkpoint's folder that holds the model.
    """

    folder: ClassVar[str]

    def load(self, settings: RoomSettings) -> None:
        """Load the checkpoint into the engine of the settings."""
        torch.set_num_threads(settings.threads)
        folder = settings.checkpoints / self.folder
        self._vocab_size = read_step1_config(folder).vocab_size
        self._warm = False
        self._engine = open_engine(folder, settings, self.metrics, self._around_pass)
        self._streams = self._engine.streams
        self._next_report: asyncio.TimerHandle | None = None
        self._open = self.metrics.gauge(OPEN_REQUESTS)
        self._tokens = self.metrics.counter(MODEL_TOKENS)

    def warm_up(self) -> None:
        """Generate a few tokens for a short prompt."""
        ids = asyncio.run(self._generate_once())
        self.expect(len(ids) == _WARM_UP_TOKENS, f"{len(ids)} tokens where {_WARM_UP_TOKENS} were asked for")
        self.expect(all(0 <= token < self._vocab_size for token in ids), "ids outside the vocabulary")
        self._warm = True

    async def _generate_once(self) -> list[int]:
        params = SamplingParams(max_new_tokens=_WARM_UP_TOKENS, temperature=0)
        ids: list[int] = []
        async for output in self._streams.stream([1, 2, 3], params, is_gone=lambda: False):
            self.expect(output.error is None, f"the error {output.error}")
            ids += output.ids
        return ids

    def _around_pass(self, requests: int) -> AbstractContextManager[None]:
        # The warm-up is no caller's, and runs on another thread than the one that may write metrics.
        return self.metrics.one_pass(requests) if self._warm else nullcontext()

    def finalize(self) -> None:
        """End the engine, then what every room ends."""
        if self._next_report is not None:
            self._next_report.cancel()
        self._streams.close()
        super().finalize()

    async def execute(self, requests: list[Any]) -> None:
        """Answer each request with a stream of responses."""
        await asyncio.gather(*(self._answer(request) for request in requests))

    async def _answer(self, request: Any) -> None:
        sender = request.get_response_sender()
        self._open.set(self._streams.open_requests + 1)
        if self._next_report is None:
            self._report_later()
        try:
            asked = read_request(self.spec, request)
            self.epochs.admit(asked.context)

            def is_gone() -> bool:
                return bool(sender.is_cancelled()) or self.epochs.is_stale(asked.context)

            stream = self._streams.stream(
                asked.tensors["input_ids"].tolist(),
                _params(asked),
                is_gone=is_gone,
                slack_ms=asked.context.slack_ms,
            )
            with self.traced(asked.context):
                async with aclosing(stream):
                    await self._send(sender, stream, ids_per_response=asked.number("ids_per_response") or 1)
            self.metrics.ended("ok")
        except Exception as error:  # noqa: BLE001 - whatever went wrong is this request's answer, and no other's
            sender.send(refuse(error), flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            self.metrics.ended(outcome(error))
        finally:
            self._open.set(self._streams.open_requests)

    def _report_later(self) -> None:
        self._next_report = asyncio.get_running_loop().call_later(_REPORT_INTERVAL_S, self._report)

    def _report(self) -> None:
        """Bring the engine's metrics up to date, and again until it has come to rest."""
        self._next_report = None
        if self._engine.report() or self._streams.open_requests:
            self._report_later()

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
