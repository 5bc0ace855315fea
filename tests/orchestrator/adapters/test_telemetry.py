"""What the observer sees and the store takes becomes metrics and traces, and nothing else changes."""

import asyncio
from dataclasses import dataclass, replace

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from services.orchestrator.adapters.telemetry import MeasuredSessionStore, TelemetryObserver, follow_sessions
from services.orchestrator.conversation.events import ReplyId
from services.orchestrator.conversation.options import Options, ToolExecutor
from services.orchestrator.conversation.outputs import InterruptionReason
from services.orchestrator.conversation.record import (
    Degradation,
    FirstAudioBreakdown,
    Origin,
    Outcome,
    ReplyWork,
    RoomName,
    RoomWork,
    SpeculationWork,
    ToolCall,
    ToolExchange,
    ToolOutcome,
    TurnMetrics,
    TurnRecord,
)
from services.orchestrator.ports.store import NewSession, Progress, SessionStore, StreamFormats
from services.shared.errors import InputIdleError, RoomUnavailableError, SessionNotFoundError
from services.shared.telemetry.catalogue import ORCHESTRATOR, ORCHESTRATOR_METRICS
from services.shared.telemetry.metrics import Metrics
from services.shared.telemetry.tracing import NoTraces, OtelTraces
from tests.fakes.store import FakeSessionStore, WallClock

pytestmark = pytest.mark.unit

FIRST_AUDIO = FirstAudioBreakdown(
    endpointing_s=0.5, tokenizer_s=0.05, lm_s=0.2, tts_s=0.1, vocoder_s=0.3, orchestrator_s=0.05
)


CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Counted:
    """Metrics and a look at their values."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.metrics = Metrics(ORCHESTRATOR_METRICS, stage=ORCHESTRATOR, registry=self._registry)

    def __call__(self, name: str, **labels: str) -> float | None:
        return self._registry.get_sample_value(f"stepaudio_orchestrator_{name}", labels)


@pytest.fixture
def counted() -> Counted:
    return Counted()


def record(metrics: TurnMetrics) -> TurnRecord:
    return TurnRecord(1, Origin.SPEECH, "hello", "hi", Outcome.COMPLETED, 1.0, 2.0, metrics)


def test_a_turn_is_counted_with_all_its_times_and_amounts(counted: Counted) -> None:
    lm = RoomWork(RoomName.LM, requests=2, total_s=0.9, first_output_s=0.2)
    fewer = (Degradation.FEWER_FLOW_STEPS,)
    work = ReplyWork((lm,), prompt_tokens=40, text_tokens=12, speech_tokens=90, degradations=fewer)
    ahead = SpeculationWork(started=3, committed=1, discarded=2, withheld=4, wasted_tokens=50, saved_ms=400)
    metrics = TurnMetrics(FIRST_AUDIO, work, 1_500, 4_000, 3_000, playout_underruns=2, speculation=ahead)
    TelemetryObserver(counted.metrics, NoTraces(), wall_offset_s=0).turn_ended("s", record(metrics))
    assert counted("ended_turns_total", origin="speech", outcome="completed") == 1
    assert counted("first_audio_seconds_sum", origin="speech") == pytest.approx(1.2)
    parts = ("endpointing", "tokenizer", "lm", "tts", "vocoder", "orchestrator")
    assert sum(counted("first_audio_part_seconds_sum", part=part) or 0 for part in parts) == pytest.approx(1.2)
    assert counted("room_first_output_seconds_sum", room="lm") == 0.2
    assert counted("room_answer_seconds_sum", room="lm") == 0.9
    assert counted("room_requests_total", room="lm") == 2
    assert [counted("tokens_total", kind=kind) for kind in ("prompt", "text", "speech")] == [40, 12, 90]
    assert counted("user_audio_seconds_total") == 1.5
    assert counted("reply_audio_seconds_total") == 4
    assert counted("heard_audio_seconds_total") == 3
    assert counted("playout_underruns_total") == 2
    outcomes = ("committed", "discarded", "withheld")
    assert [counted("speculations_total", outcome=outcome) for outcome in outcomes] == [1, 2, 4]
    assert counted("wasted_tokens_total") == 50
    assert counted("saved_seconds_total") == 0.4
    assert counted("underrun_turns_total") == 1
    ways = ("smaller_first_chunk", "fewer_flow_steps", "no_speculation")
    assert [counted("degraded_turns_total", degradation=way) for way in ways] == [0, 1, 0]


def test_calls_of_functions_are_counted_by_who_ran_them_and_how_they_ended(counted: Counted) -> None:
    call = ToolCall("call-1", "weather", "{}")
    exchanges = (
        ToolExchange(call, ToolOutcome.TIMED_OUT, "late", ToolExecutor.HTTP_ENDPOINT, 3.0),
        ToolExchange(call, ToolOutcome.RETURNED, "sunny", ToolExecutor.CLIENT, 0.5),
        ToolExchange(call, ToolOutcome.FAILED, "there is no function", None, 0.0),
    )
    turn = replace(record(TurnMetrics()), tool_exchanges=exchanges)
    TelemetryObserver(counted.metrics, NoTraces(), wall_offset_s=0).turn_ended("s", turn)
    assert counted("tool_calls_total", executor="http_endpoint", outcome="timed_out") == 1
    assert counted("tool_calls_total", executor="client", outcome="returned") == 1
    assert counted("tool_calls_total", executor="none", outcome="invalid") == 1
    assert counted("tool_call_seconds_sum", executor="http_endpoint") == 3.0
    assert counted("tool_call_seconds_count", executor="client") == 1


@dataclass(slots=True)
class Sessions:
    open_sessions: int
    attached_streams: int
    is_draining: bool = False
    degradation_level: int = 0


def test_gauges_of_sessions_show_what_there_is_and_while_it_drains_what_is_left(counted: Counted) -> None:
    sessions = Sessions(open_sessions=3, attached_streams=2)
    follow_sessions(counted.metrics, sessions, max_sessions=8)
    names = ("open_sessions", "attached_sessions", "draining_sessions", "max_sessions")
    assert [counted(name) for name in names] == [3, 2, 0, 8]
    assert counted("degradation_levels") == 0
    sessions.degradation_level = 2
    assert counted("degradation_levels") == 2
    sessions.is_draining, sessions.open_sessions = True, 1
    assert [counted(name) for name in names] == [1, 2, 1, 8]


def test_the_log_tells_how_a_turn_went_and_no_word_of_it(counted: Counted, caplog: pytest.LogCaptureFixture) -> None:
    observer = TelemetryObserver(counted.metrics, NoTraces(), wall_offset_s=0)
    with caplog.at_level("INFO"):
        observer.turn_ended("s", record(TurnMetrics(FIRST_AUDIO)))
    (line,) = caplog.records
    fields = vars(line)
    assert (line.message, fields["outcome"], fields["first_audio_s"]) == ("turn ended", "completed", 1.2)
    assert not {"hello", "hi"} & {str(value) for value in fields.values()}


def test_a_turn_without_audio_has_no_time_to_it(counted: Counted) -> None:
    TelemetryObserver(counted.metrics, NoTraces(), wall_offset_s=0).turn_ended("s", record(TurnMetrics()))
    assert counted("first_audio_seconds_count", origin="speech") == 0
    assert counted("underrun_turns_total") == 0


@pytest.mark.parametrize("reason", InterruptionReason)
def test_the_silence_after_an_interruption_is_counted_by_its_reason(
    counted: Counted, reason: InterruptionReason
) -> None:
    TelemetryObserver(counted.metrics, NoTraces(), wall_offset_s=0).silenced("s", reason, 0.07)
    assert counted("barge_in_silence_seconds_count", reason=reason) == 1
    assert counted("barge_in_silence_seconds_sum", reason=reason) == 0.07


@pytest.mark.parametrize(
    ("error", "reason"), [(None, "OK"), (InputIdleError("quiet"), "INPUT_IDLE"), (ZeroDivisionError(), "INTERNAL")]
)
def test_a_stream_is_counted_by_what_ended_it(counted: Counted, error: Exception | None, reason: str) -> None:
    TelemetryObserver(counted.metrics, NoTraces(), wall_offset_s=0).stream_ended("s", error)
    assert counted("ended_streams_total", reason=reason) == 1


def test_a_reply_is_one_span_with_a_span_for_each_request_at_its_own_time(counted: Counted) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    observer = TelemetryObserver(counted.metrics, OtelTraces(provider), wall_offset_s=1_000)
    reply = observer.reply("s", ReplyId(turn=3, epoch=2), CALLER)
    assert reply.traceparent.startswith("00-")
    reply.stage(RoomName.TTS, 5.0, 5.25)
    reply.end(RoomUnavailableError("gone"))
    room, turn = exporter.get_finished_spans()
    assert (room.name, turn.name) == ("tts", "turn")
    assert (room.start_time, room.end_time) == (1_005_000_000_000, 1_005_250_000_000)
    assert room.parent is not None
    assert room.parent.span_id == turn.context.span_id
    assert turn.parent is not None
    assert f"00-{turn.parent.trace_id:032x}-{turn.parent.span_id:016x}-01" == CALLER
    assert turn.attributes == {"session": "s", "turn": 3, "epoch": 2}
    assert not turn.status.is_ok


def test_the_stores_requests_are_timed_also_when_they_fail_and_sessions_are_counted(counted: Counted) -> None:
    ticks = iter(range(100))
    behind = FakeSessionStore(clock=WallClock())
    store: SessionStore = MeasuredSessionStore(behind, counted.metrics, clock=lambda: float(next(ticks)))
    formats = StreamFormats("pcm16", 16_000, "pcm16", 24_000)
    session = NewSession("acme", "s", formats, Options(), (), {}, created_s=1_800_000_000.0, retention_s=60)

    async def use() -> None:
        lease = await store.create(session, owner="a", token_digest="t")
        await store.save_options(lease, Options(system_prompt="Be brief."))
        await store.renew(lease, Progress(1, 1, 0, attached=False))
        await store.resume("acme", "s", owner="b", token_digest="t")
        assert (await store.get("acme", "s")).options.system_prompt == "Be brief."
        await store.delete("acme", "s")
        with pytest.raises(SessionNotFoundError):
            await store.get("acme", "s")

    asyncio.run(use())
    assert counted("begun_sessions_total", how="new") == 1
    assert counted("begun_sessions_total", how="resumed") == 1
    operations = {"create": 1, "resume": 1, "renew": 1, "write": 1, "read": 2, "delete": 1}
    assert {name: counted("store_seconds_count", operation=name) for name in operations} == operations
    assert counted("store_seconds_sum", operation="read") == 2
