"""The port of whatever answers many callers at once, each with a stream of ids: what a language model's room stands on.

    caller 1 ── stream(prompt, params) ──> ids, ids, ids … finish
    caller 2 ── stream(prompt, params) ──> ids … is_gone ──> finish CANCELLED

Two things implement it: `EngineRunner`, which steps a synchronous `Engine` on the callers' own event loop, and
`vllm.VllmStreams`, before vLLM's engine in processes of its own. What ids mean, who the callers are and how a session
moves on, is not known here.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

from services.shared.decoding.engine import StepOutput
from services.shared.sampling import SamplingParams


class TokenStreams(Protocol):
    """Generates tokens for any number of callers, each on an event loop."""

    @property
    def open_requests(self) -> int:
        """Requests that have not ended."""

    def stream(
        self, prompt_ids: Sequence[int], params: SamplingParams, *, is_gone: Callable[[], bool], slack_ms: int = 0
    ) -> AsyncGenerator[StepOutput, None]:
        """Generate one reply; closing the generator cancels it.

        Args:
            prompt_ids: see `RequestLimits.admit`.
            params: how to generate.
            is_gone: asked every few milliseconds; once true, the request ends with FinishReason.CANCELLED.
            slack_ms: how long the listener can wait for it; where requests compete, the one due first goes first.

        Yields:
            What was done for this request; the last one has a finish reason.

        Raises:
            StepAudioError: what `RequestLimits.admit` refuses, and an engine that is gone for good.
        """

    def close(self) -> None:
        """Release what the engine holds; requests that are still open end."""
