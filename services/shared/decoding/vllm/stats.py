"""What vLLM counts, on its way to a room's metrics.

vLLM calls a stat logger once a step, on the engine's loop; a room may write its metrics only from the thread that runs
its `execute`. So the numbers are added up here, and the room takes them when it will.

    engine's loop ── record ──> sums, samples ──> take ── room's thread

Source: vLLM 0.32's StatLoggerBase; the attributes of its SchedulerStats and IterationStats are named here and nowhere
else, since they are not promised to stay.
"""

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

_SAMPLES: Final = 16_384
"""Times that are kept until they are taken, about ten seconds of a full batch; the oldest are dropped first."""


def _samples() -> deque[float]:
    return deque(maxlen=_SAMPLES)


@dataclass(slots=True)
class EngineStats:
    """Numbers of the engine: gauges as they stand, all others since they were last taken.

    Attributes:
        running: requests in the batch.
        waiting: requests that wait to join it.
        kv_cache_used: part of the key/value cache in use, 0..1.
        preemptions: requests put back because memory ran out.
        prompt_tokens: read, those found in the cache included.
        prefix_asked_tokens: tokens of prompts looked up in the prefix cache.
        prefix_found_tokens: those found there.
        first_token_s: from a request's arrival to its first token.
        token_interval_s: between a request's tokens.
        queued_s: from a request's arrival to its joining the batch, once it has ended.
    """

    running: int = 0
    waiting: int = 0
    kv_cache_used: float = 0.0
    preemptions: int = 0
    prompt_tokens: int = 0
    prefix_asked_tokens: int = 0
    prefix_found_tokens: int = 0
    first_token_s: deque[float] = field(default_factory=_samples)
    token_interval_s: deque[float] = field(default_factory=_samples)
    queued_s: deque[float] = field(default_factory=_samples)


class StatsTaker:
    """Adds up what vLLM's steps tell, until someone takes it; safe from any thread."""

    def __init__(self) -> None:
        self._stats = EngineStats()
        self._lock = threading.Lock()

    def record(self, scheduler: Any | None, iteration: Any | None) -> None:
        """Add one step: vLLM's SchedulerStats and IterationStats, either of which may be absent."""
        with self._lock:
            stats = self._stats
            if scheduler is not None:
                stats.running, stats.waiting = scheduler.num_running_reqs, scheduler.num_waiting_reqs
                stats.kv_cache_used = scheduler.kv_cache_usage
                stats.prefix_asked_tokens += scheduler.prefix_cache_stats.queries
                stats.prefix_found_tokens += scheduler.prefix_cache_stats.hits
            if iteration is not None:
                stats.preemptions += iteration.num_preempted_reqs
                stats.prompt_tokens += iteration.num_prompt_tokens
                stats.first_token_s.extend(iteration.time_to_first_tokens_iter)
                stats.token_interval_s.extend(iteration.inter_token_latencies_iter)
                stats.queued_s.extend(request.queued_time for request in iteration.finished_requests)

    def take(self) -> EngineStats:
        """What was added since the last time; the gauges stay as they are."""
        with self._lock:
            taken = self._stats
            self._stats = EngineStats(taken.running, taken.waiting, taken.kv_cache_used)
            return taken
