"""A trace goes on in a room's own process, and what the room says is JSON: on a real Triton server."""

import asyncio
import json
import queue
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from services.local.settings import LocalSettings
from services.local.system import LocalSystem
from services.local.triton import is_installed
from services.shared.triton import RequestContext
from services.shared.triton.client import TritonClient
from services.shared.triton.specs import STEP1_CHAT
from tests.conftest import NANO

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not is_installed(), reason="the Triton server is in the extra `local`"),
]

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.spans: queue.Queue[Any] = queue.Queue()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  # the protocol's name
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.put(span)
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"http://127.0.0.1:{port}"
    server.stop(0).wait()


def test_a_rooms_span_is_the_child_of_the_span_that_asked(
    collector: tuple[Collector, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, endpoint = collector
    monkeypatch.setenv("STEPAUDIO_OTLP_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    system = LocalSystem(LocalSettings(run_folder=tmp_path, checkpoints=NANO), notify=lambda _: None, pools=("lm",))

    async def ask() -> None:
        await system.start()
        context = RequestContext("s", 1, 1, CALLER)
        async with TritonClient(system.servers["lm"].address) as client:
            inputs = {"input_ids": [1, 2, 3], "max_new_tokens": [3], "temperature": [0.0]}
            async for _ in client.stream(STEP1_CHAT, inputs, timeout_s=30, context=context):
                pass

    try:
        asyncio.run(ask())
        span = taken.spans.get(timeout=30)
    finally:
        system.stop()
    assert span.name == "step1_chat"
    assert span.trace_id.hex() == CALLER.split("-")[1]
    assert span.parent_span_id.hex() == CALLER.split("-")[2]
    said = (tmp_path / "triton-lm.log").read_text().splitlines()
    events = [json.loads(line)["event"] for line in said if line.startswith("{")]
    assert "serving" in events
