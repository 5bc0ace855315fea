"""A replica is put together from its settings."""

import pytest
from prometheus_client import CollectorRegistry

from services.orchestrator.replica import CountedFaults
from services.shared.errors import RoomUnavailableError
from services.shared.telemetry.catalogue import ORCHESTRATOR, ORCHESTRATOR_METRICS
from services.shared.telemetry.metrics import Metrics

pytestmark = pytest.mark.unit


def test_errors_of_calls_are_counted_by_reason_and_told_as_they_are() -> None:
    registry = CollectorRegistry()
    faults = CountedFaults(Metrics(ORCHESTRATOR_METRICS, stage=ORCHESTRATOR, registry=registry))
    error = RoomUnavailableError("gone")
    assert faults.told(error, where="Chat") is error
    assert "incident" in str(faults.told(ZeroDivisionError("secret"), where="Chat"))
    for reason in ("ROOM_UNAVAILABLE", "INTERNAL"):
        assert registry.get_sample_value("stepaudio_orchestrator_errors_total", {"reason": reason}) == 1
