"""The catalogue keeps the rules of names and labels, and the document follows it."""

import re

import pytest

from services.shared.errors import SlowConsumerError
from services.shared.telemetry.catalogue import (
    ENGINE_METRICS,
    ERRORS,
    MODEL_METRICS,
    ORCHESTRATOR,
    ORCHESTRATOR_METRICS,
    MetricKind,
    MetricSpec,
)
from services.shared.telemetry.document import render
from services.shared.triton.specs import STEP1_CHAT, STEP1_TTS
from tests.conftest import ROOT

pytestmark = pytest.mark.unit

ALL = [(ORCHESTRATOR, spec) for spec in ORCHESTRATOR_METRICS]
ALL += [(model, spec) for model, specs in MODEL_METRICS.items() for spec in specs]
ALL += [(model, spec) for model in (STEP1_CHAT.name, STEP1_TTS.name) for spec in ENGINE_METRICS]
UNITS = (
    "ratio|sessions|streams|turns|seconds|requests|tokens|underruns|errors|sequences|tasks|speculations|levels|calls"
    "|stores"
)


@pytest.mark.parametrize(("stage", "spec"), ALL, ids=lambda value: getattr(value, "what", value))
def test_every_metric_is_named_by_stage_thing_and_unit_and_has_a_sentence_of_help(stage: str, spec: MetricSpec) -> None:
    assert re.fullmatch(rf"stepaudio_{stage}_([a-z_]+_)?({UNITS})(_total)?", spec.name(stage))
    assert spec.help_text.endswith(".")
    assert list(spec.buckets) == sorted(set(spec.buckets))


def test_no_two_metrics_share_a_name() -> None:
    names = [spec.name(stage) for stage, spec in ALL]
    assert len(set(names)) == len(names)


def test_labels_are_bounded_and_never_name_a_session_a_turn_or_a_tenant() -> None:
    for _, spec in ALL:
        assert not {"session", "turn", "tenant", "session_id"} & set(spec.labels)
        assert len(spec.label_values) <= 100


def test_errors_are_counted_by_every_reason_of_the_tree() -> None:
    assert SlowConsumerError.reason in ERRORS.labels["reason"]


def test_a_kind_that_does_not_fit_the_name_is_refused() -> None:
    with pytest.raises(ValueError, match="ends in _total"):
        MetricSpec("things", MetricKind.COUNTER, "Things.")
    with pytest.raises(ValueError, match="buckets"):
        MetricSpec("seconds", MetricKind.HISTOGRAM, "Seconds.")


def test_the_document_is_what_the_catalogue_says() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert page == render(), "run `python -m services.shared.telemetry.document docs/metrics.md`"
