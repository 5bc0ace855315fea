"""The port to whatever generates tokens: ids go in and come out, one step at a time.

The batcher of this package implements it on plain torch; an engine for GPUs implements the same. Text, prompts and
speech are unknown here. The port is synchronous and belongs to one thread at a time; who steps it, and how results
reach many callers, is decided around it.

    submit ──> waiting ──> running ──step──> ids, ids, ids … FinishReason
                  └───────────┴── cancel ──> FinishReason.CANCELLED in the next step
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

from services.shared.errors import StepAudioError
from services.shared.sampling import FinishReason, SamplingParams

RequestId = NewType("RequestId", int)


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What one step did for one request.

    Attributes:
        request_id: whose.
        ids: tokens it gained, perhaps none; never a stop id.
        finish_reason: why it ended with this step; None while it goes on.
        error: what went wrong, with FinishReason.ERROR only.
    """

    request_id: RequestId
    ids: tuple[int, ...]
    finish_reason: FinishReason | None = None
    error: StepAudioError | None = None


class Engine(Protocol):
    """Generates tokens for any number of requests."""

    @property
    def has_work(self) -> bool:
        """Whether `step` has anything to do or to report."""

    def submit(self, prompt_ids: Sequence[int], params: SamplingParams, *, due_s: float = 0.0) -> RequestId:
        """Queue a request; it joins the running ones in one of the next steps.

        Args:
            prompt_ids: see `RequestLimits.admit`.
            params: how to generate.
            due_s: when its listener needs it, on any clock that all requests share. Of the waiting requests the one
                due first joins first; those due at the same time, in the order they came.

        Raises:
            StepAudioError: what `RequestLimits.admit` refuses.
        """

    def cancel(self, request_id: RequestId) -> None:
        """End a request now: no step computes for it any more, the next one reports it as cancelled.

        A request that has ended already is left alone: the cancellation crossed its last token on the way.
        """

    def step(self) -> list[StepOutput]:
        """Advance every running request by at most one token, and let waiting ones join.

        Returns:
            One output for each request that gained tokens or ended. A request that went wrong ends alone; the others
            do not notice.
        """
