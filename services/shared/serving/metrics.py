"""The metrics of one model, on its server's /metrics.

Triton's server crashes when its metrics are updated from several threads at once. Every room updates them from the one
thread that runs its `execute`, and from nowhere else.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import triton_python_backend_utils as pb

OUTCOMES: Final = ("ok", "invalid", "cancelled", "failed")
_SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_REQUESTS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


class RoomMetrics:
    """What every model counts, and the gauges and counters of its own."""

    def __init__(self, stage: str) -> None:
        """Args: stage: the model's name, part of every metric's name."""
        self._stage = stage
        self._families: list[Any] = []  # a family dies with its last reference, and its metrics with it
        requests = self._family("requests_total", "Requests by how they ended.", "COUNTER")
        self._outcomes = {name: requests.Metric(labels={"outcome": name}) for name in OUTCOMES}
        self._compute = self._histogram("compute_seconds", "Time of one pass over the network.", _SECONDS)
        self._batch = self._histogram("batch_requests", "Requests that shared a pass.", _REQUESTS)

    def gauge(self, what: str, help_text: str) -> Any:
        """A gauge `stepaudio_<stage>_<what>`; call its `set`."""
        return self._family(what, help_text, "GAUGE").Metric(labels={})

    def counter(self, what: str, help_text: str) -> Any:
        """A counter `stepaudio_<stage>_<what>`; call its `increment`."""
        return self._family(what, help_text, "COUNTER").Metric(labels={})

    def ended(self, outcome: str) -> None:
        """A request has ended."""
        self._outcomes[outcome].increment(1)

    @contextmanager
    def one_pass(self, requests: int) -> Iterator[None]:
        """Time one pass for so many requests."""
        started_s = time.perf_counter()
        try:
            yield
        finally:
            self._compute.observe(time.perf_counter() - started_s)
            self._batch.observe(requests)

    def _histogram(self, what: str, help_text: str, buckets: Sequence[float]) -> Any:
        return self._family(what, help_text, "HISTOGRAM").Metric(labels={}, buckets=list(buckets))

    def _family(self, what: str, help_text: str, kind: str) -> Any:
        family = pb.MetricFamily(
            name=f"stepaudio_{self._stage}_{what}", description=help_text, kind=getattr(pb.MetricFamily, kind)
        )
        self._families.append(family)
        return family
