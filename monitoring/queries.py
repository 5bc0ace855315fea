"""Which metrics a query reads, and which metrics there are.

The names there are: the catalogue's series, what rules record, and what external_metrics.yaml lists of others. It knows
nothing of rules or dashboards.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import promql_parser
import yaml

from services.shared.telemetry.catalogue import (
    ENGINE_METRICS,
    MODEL_METRICS,
    ORCHESTRATOR,
    ORCHESTRATOR_METRICS,
    MetricKind,
    MetricSpec,
)
from services.shared.triton.specs import STEP1_CHAT, STEP1_TTS

_EXTERNAL: Final = Path(__file__).with_name("external_metrics.yaml")
_EQUAL: Final = promql_parser.MatchOp.Equal
_PARTS_OF_A_HISTOGRAM: Final = ("_bucket", "_sum", "_count")


def metric_names(query: str) -> set[str]:
    """The metrics that a query reads.

    Raises:
        ValueError: it cannot be parsed, or selects series without naming their metric.
    """
    return {name for name, _ in selectors(query)}


def selectors(query: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each selector of a query: its metric, and the labels that must equal a value.

    Raises:
        ValueError: it cannot be parsed, or a selector does not name its metric.
    """
    found: list[promql_parser.VectorSelector] = []

    def look(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(promql_parser.parse(query), look)
    for selector in found:
        if not selector.name:
            raise ValueError(f"a selector without a metric's name: {query}")
        matchers = selector.matchers.matchers
        yield selector.name, {matcher.name: matcher.value for matcher in matchers if matcher.op == _EQUAL}


def own_series() -> dict[str, MetricSpec]:
    """Every series that the product exports with any engine, by name."""
    return _series([(ORCHESTRATOR, ORCHESTRATOR_METRICS), *MODEL_METRICS.items()])


def engine_series() -> dict[str, MetricSpec]:
    """What the language models export besides where vLLM is their engine, by name."""
    return _series([(model.name, ENGINE_METRICS) for model in (STEP1_CHAT, STEP1_TTS)])


def _series(stages: Iterable[tuple[str, Iterable[MetricSpec]]]) -> dict[str, MetricSpec]:
    found: dict[str, MetricSpec] = {}
    for stage, specs in stages:
        for spec in specs:
            endings = _PARTS_OF_A_HISTOGRAM if spec.kind is MetricKind.HISTOGRAM else ("",)
            found |= {spec.name(stage) + ending: spec for ending in endings}
    return found


def external_series() -> dict[str, set[str]]:
    """Metrics of others by what exports them."""
    listed: dict[str, Any] = yaml.safe_load(_EXTERNAL.read_text(encoding="utf-8"))
    return {exporter: set(entry["metrics"]) for exporter, entry in listed.items()}
