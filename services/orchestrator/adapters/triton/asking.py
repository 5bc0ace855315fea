"""How the adapters ask: whose work it is, within one deadline, and a second time where asking twice is harmless.

A reply of a language model is never asked for twice: its caller may have used the first half.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from services.orchestrator.ports.rooms import Work
from services.shared.errors import RoomUnavailableError
from services.shared.sampling import FinishReason, SamplingParams
from services.shared.triton.client import TritonClient
from services.shared.triton.context import RequestContext
from services.shared.triton.tensors import ModelSpec

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class IdsPiece:
    """The next ids of a reply; with the last of them, perhaps none, why it ended."""

    ids: list[int]
    finish_reason: FinishReason | None


def context_of(work: Work) -> RequestContext:
    """Whose work a request is, as Triton carries it."""
    return RequestContext(work.session, work.turn, work.epoch, work.traceparent, work.slack_ms)


async def ask_again(call: Callable[[float], Awaitable[Answer]], *, timeout_s: float) -> Answer:
    """Ask, and if the server is gone ask once more: another one may be there, or the same again.

    Args:
        call: asks within so many seconds; asking twice must be harmless.
        timeout_s: for both together.

    Raises:
        RoomUnavailableError: twice.
        StepAudioError: whatever else the first call raises.
    """
    deadline_s = time.monotonic() + timeout_s
    try:
        return await call(timeout_s)
    except RoomUnavailableError as error:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise
        try:
            return await call(left_s)
        except RoomUnavailableError as again:
            raise again from error


async def generate(
    client: TritonClient,
    spec: ModelSpec,
    prompt_ids: Sequence[int],
    sampling: SamplingParams,
    *,
    work: Work,
    timeout_s: float,
    ids_per_response: int = 1,
) -> AsyncGenerator[IdsPiece, None]:
    """Let a language model go on from a prompt; closing the generator cancels it in the engine.

    Args:
        client: of its servers.
        spec: the model's door.
        prompt_ids: what it reads.
        sampling: how it generates.
        work: whose work it is.
        timeout_s: for the whole reply.
        ids_per_response: ids that are gathered before they are sent.

    Yields:
        Pieces in order; the last one has a finish reason.

    Raises:
        StepAudioError: as `TritonClient.stream`.
        RoomUnavailableError: also where the stream ends without a finish reason.
    """
    request = {"input_ids": prompt_ids, "ids_per_response": [ids_per_response], **_sampling_tensors(sampling)}
    async with aclosing(client.stream(spec, request, timeout_s=timeout_s, context=context_of(work))) as answers:
        async for answer in answers:
            reason = str(answer["finish_reason"].item())
            yield IdsPiece(answer["output_ids"].tolist(), FinishReason(reason) if reason else None)
            if reason:
                return
    raise RoomUnavailableError(f"{spec.name}: the reply ended without saying why; its server may have stopped")


def _sampling_tensors(sampling: SamplingParams) -> dict[str, object]:
    tensors: dict[str, object] = {
        "max_new_tokens": [sampling.max_new_tokens],
        "temperature": [sampling.temperature],
        "top_k": [sampling.top_k],
        "top_p": [sampling.top_p],
        "stop_ids": sampling.stop_ids,
        "repetition_aware": [sampling.repetition_aware],
    }
    if sampling.seed is not None:
        tensors["seed"] = [sampling.seed]
    if sampling.allowed_ids is not None:
        tensors["allowed_ids"] = [sampling.allowed_ids.first, sampling.allowed_ids.end]
    return tensors
