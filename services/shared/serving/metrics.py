"""The metrics of one model, on its server's /metrics; the catalogue says which there are.

Triton's server crashes when its metrics are updated from several threads at once. Every room updates them from the one
thread that runs its `execute`, and from nowhere else.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import triton_python_backend_utils as pb

from services.shared.telemetry.catalogue import MODEL_BATCH, MODEL_COMPUTE, MODEL_REQUESTS, MetricKind, MetricSpec

_KINDS: Final = {MetricKind.COUNTER: "COUNTER", MetricKind.GAUGE: "GAUGE", MetricKind.HISTOGRAM: "HISTOGRAM"}


class RoomMetrics:
    """What every model counts, and the gauges and counters of its own."""

    def __init__(self, stage: str) -> None:
        """Args: stage: the model's name, part of every metric's name."""
        self._stage = stage
        self._families: list[Any] = []  # a family dies with its last reference, and its metrics with it
        requests = self._family(MODEL_REQUESTS)
        (outcomes,) = MODEL_REQUESTS.labels.values()
        self._outcomes = {name: requests.Metric(labels={"outcome": name}) for name in outcomes}
        self._compute = self.histogram(MODEL_COMPUTE)
        self._batch = self.histogram(MODEL_BATCH)

    def gauge(self, spec: MetricSpec) -> Any:
        """A gauge of the catalogue; call its `set`."""
        return self._family(spec).Metric(labels={})

    def counter(self, spec: MetricSpec) -> Any:
        """A counter of the catalogue; call its `increment`."""
        return self._family(spec).Metric(labels={})

    def histogram(self, spec: MetricSpec) -> Any:
        """A histogram of the catalogue; call its `observe`."""
        return self._family(spec).Metric(labels={}, buckets=list(spec.buckets))

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

    def _family(self, spec: MetricSpec) -> Any:
        kind = getattr(pb.MetricFamily, _KINDS[spec.kind])
        family = pb.MetricFamily(name=spec.name(self._stage), description=spec.help_text, kind=kind)
        self._families.append(family)
        return family
