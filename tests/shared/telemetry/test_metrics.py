"""Metrics in a registry are those of the catalogue, all of them from the start."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from services.shared.telemetry.catalogue import (
    ENDED_TURNS,
    FIRST_AUDIO,
    OPEN_SESSIONS,
    ORCHESTRATOR,
    ORCHESTRATOR_METRICS,
    UNDERRUNS,
)
from services.shared.telemetry.metrics import Metrics

pytestmark = pytest.mark.unit


def made() -> tuple[Metrics, CollectorRegistry]:
    registry = CollectorRegistry()
    return Metrics(ORCHESTRATOR_METRICS, stage=ORCHESTRATOR, registry=registry), registry


def test_every_series_is_there_before_anything_happened() -> None:
    _, registry = made()
    page = generate_latest(registry).decode()
    for spec in ORCHESTRATOR_METRICS:
        assert spec.name(ORCHESTRATOR) in page
    labels = {"origin": "say", "outcome": "interrupted"}
    assert registry.get_sample_value("stepaudio_orchestrator_ended_turns_total", labels) == 0


def test_counters_add_histograms_sort_and_gauges_follow() -> None:
    metrics, registry = made()
    metrics.count(ENDED_TURNS, origin="speech", outcome="completed")
    metrics.count(UNDERRUNS, 3)
    metrics.observe(FIRST_AUDIO, 0.42, origin="speech")
    metrics.follow(OPEN_SESSIONS, lambda: 7)
    read = registry.get_sample_value
    prefix = "stepaudio_orchestrator"
    assert read(f"{prefix}_ended_turns_total", {"origin": "speech", "outcome": "completed"}) == 1
    assert read(f"{prefix}_playout_underruns_total") == 3
    assert read(f"{prefix}_first_audio_seconds_bucket", {"origin": "speech", "le": "0.4"}) == 0
    assert read(f"{prefix}_first_audio_seconds_bucket", {"origin": "speech", "le": "0.5"}) == 1
    assert read(f"{prefix}_open_sessions") == 7


def test_a_label_outside_the_catalogue_is_refused_and_makes_no_series() -> None:
    metrics, registry = made()
    before = generate_latest(registry)
    with pytest.raises(ValueError, match="no series"):
        metrics.count(ENDED_TURNS, origin="letter", outcome="completed")
    with pytest.raises(ValueError, match="no series"):
        metrics.count(UNDERRUNS, session="7")
    assert generate_latest(registry) == before


def test_two_processes_worth_of_metrics_do_not_meet_in_a_global_registry() -> None:
    made()
    made()
