"""The metrics of one process in a registry of Prometheus's client; the catalogue says which there are.

Every series exists from the start, so that a rate is right from the first event on, and a label outside the catalogue
is a defect that is raised at once.
"""

from collections.abc import Callable, Iterable
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.shared.telemetry.catalogue import MetricKind, MetricSpec

_Series: TypeAlias = Counter | Gauge | Histogram


class Metrics:
    """Series of a catalogue. Not for several threads where they set gauges."""

    def __init__(self, specs: Iterable[MetricSpec], *, stage: str, registry: CollectorRegistry) -> None:
        """Args: specs: what there is. stage: the middle of every name. registry: where they are registered."""
        self._series: dict[tuple[str, tuple[str, ...]], _Series] = {}
        for spec in specs:
            family = _family(spec, stage, registry)
            for values in spec.label_values:
                self._series[spec.what, values] = family.labels(*values) if values else family

    def count(self, spec: MetricSpec, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter."""
        series = self._find(spec, labels)
        assert isinstance(series, Counter), spec.what
        series.inc(amount)

    def observe(self, spec: MetricSpec, value: float, **labels: str) -> None:
        """Put a value into a histogram."""
        series = self._find(spec, labels)
        assert isinstance(series, Histogram), spec.what
        series.observe(value)

    def follow(self, spec: MetricSpec, read: Callable[[], float]) -> None:
        """Have a gauge read its value whenever it is looked at."""
        series = self._find(spec, {})
        assert isinstance(series, Gauge), spec.what
        series.set_function(read)

    def _find(self, spec: MetricSpec, labels: dict[str, str]) -> _Series:
        series = self._series.get((spec.what, tuple(labels.get(name, "") for name in spec.labels)))
        if series is None or labels.keys() != spec.labels.keys():
            raise ValueError(f"{spec.what} has no series {labels}")
        return series


def _family(spec: MetricSpec, stage: str, registry: CollectorRegistry) -> _Series:
    names = tuple(spec.labels)
    if spec.kind is MetricKind.HISTOGRAM:
        return Histogram(spec.name(stage), spec.help_text, names, registry=registry, buckets=spec.buckets)
    kind = Counter if spec.kind is MetricKind.COUNTER else Gauge
    return kind(spec.name(stage), spec.help_text, names, registry=registry)
