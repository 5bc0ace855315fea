"""Spans join one trace across processes by their traceparent, and cost nothing where nothing is traced."""

import sys

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.shared.errors import RoomUnavailableError
from services.shared.telemetry.tracing import NoTraces, OtelTraces, Traces, open_traces

pytestmark = pytest.mark.unit

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def recorded() -> tuple[Traces, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return OtelTraces(provider), exporter


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_turn_is_the_callers_child_and_a_room_the_turns() -> None:
    traces, exporter = recorded()
    turn = traces.begin("turn", parent=CALLER, attributes={"session": "s"})
    room = traces.begin("lm", parent=turn.traceparent)
    room.end({"tokens": 3})
    turn.end()
    spans = by_name(exporter)
    assert f"{spans['turn'].context.trace_id:032x}" == CALLER.split("-")[1]
    assert spans["turn"].parent is not None
    assert f"{spans['turn'].parent.span_id:016x}" == CALLER.split("-")[2]
    assert spans["lm"].parent is not None
    assert spans["lm"].parent.span_id == spans["turn"].context.span_id
    assert spans["lm"].attributes is not None
    assert spans["lm"].attributes["tokens"] == 3


@pytest.mark.parametrize("parent", ["", "nonsense", "00-0-0-00"])
def test_without_a_readable_parent_a_trace_of_its_own_begins(parent: str) -> None:
    traces, exporter = recorded()
    traces.begin("turn", parent=parent).end()
    assert by_name(exporter)["turn"].parent is None


def test_an_error_marks_the_span_without_the_words_of_its_message() -> None:
    traces, exporter = recorded()
    traces.begin("lm").end(error=RoomUnavailableError("the user said hello"))
    status = by_name(exporter)["lm"].status
    assert not status.is_ok
    assert status.description == "RoomUnavailableError"


def test_a_span_ends_once() -> None:
    traces, exporter = recorded()
    span = traces.begin("lm")
    span.end()
    span.end(error=RoomUnavailableError("late"))
    assert by_name(exporter)["lm"].status.is_unset


def test_without_an_endpoint_the_callers_trace_is_handed_on() -> None:
    traces = open_traces("", service="orchestrator")
    assert isinstance(traces, NoTraces)
    span = traces.begin("turn", parent=CALLER)
    assert span.traceparent == CALLER
    span.end()
    traces.close()


def test_a_process_without_opentelemetry_works_without_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert isinstance(open_traces("http://127.0.0.1:1", service="room"), NoTraces)
