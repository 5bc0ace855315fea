"""A replica serves before its rooms are there, watches itself, and drains."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from redis.asyncio import Redis

from protos.gen.stepaudio.v1 import audio_pb2, speech_pb2, speech_pb2_grpc, voice_pb2, voice_pb2_grpc
from services.local.redis import RedisServer, is_installed
from services.local.triton import free_ports
from services.orchestrator.config import OrchestratorSettings, read_settings
from services.orchestrator.replica import CountedFaults, Replica, settle_memory
from services.shared.errors import CorruptFileError, InvalidOptionError, RoomUnavailableError
from services.shared.telemetry.catalogue import ORCHESTRATOR, ORCHESTRATOR_METRICS
from services.shared.telemetry.metrics import Metrics
from tests.conftest import NANO, ROOT
from tests.orchestrator.adapters.test_smart_turn import write_network

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def environment() -> dict[str, str]:
    """Of a replica whose rooms and store are away."""
    away, metrics = free_ports(2)
    rooms = {f"STEPAUDIO_{pool}_ADDRESS": f"127.0.0.1:{away}" for pool in ("TOKENIZER", "LM", "TTS", "VOCODER")}
    return {
        **rooms,
        "STEPAUDIO_REDIS_URL": f"redis://127.0.0.1:{away}",
        "STEPAUDIO_CHECKPOINTS": str(NANO),
        "STEPAUDIO_LISTEN": "127.0.0.1:0",
        "STEPAUDIO_METRICS_LISTEN": f"127.0.0.1:{metrics}",
    }


@pytest.fixture
def settings(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> OrchestratorSettings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return read_settings()


@pytest.mark.unit
def test_collections_walk_only_what_was_made_since_serving_began() -> None:
    before = [["exists already"]]
    settle_memory()
    try:
        since = [["new"]]
        walked = {id(thing) for thing in gc.get_objects()}
    finally:
        gc.unfreeze()
    assert id(since) in walked
    assert id(before) not in walked


@pytest.mark.unit
def test_errors_of_calls_are_counted_by_reason_and_told_as_they_are() -> None:
    registry = CollectorRegistry()
    faults = CountedFaults(Metrics(ORCHESTRATOR_METRICS, stage=ORCHESTRATOR, registry=registry))
    error = RoomUnavailableError("gone")
    assert faults.told(error, where="Chat") is error
    assert "incident" in str(faults.told(ZeroDivisionError("secret"), where="Chat"))
    for reason in ("ROOM_UNAVAILABLE", "INTERNAL"):
        assert registry.get_sample_value("stepaudio_orchestrator_errors_total", {"reason": reason}) == 1


@pytest.mark.integration
def test_a_replica_answers_without_its_rooms_and_says_which_error_that_is(settings: OrchestratorSettings) -> None:
    async def use() -> str:
        async with Replica(settings) as replica, grpc.aio.insecure_channel(replica.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            assert (await health.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING, "without a store"
            voices = await voice_pb2_grpc.VoiceServiceStub(channel).GetVoice(
                voice_pb2.GetVoiceRequest(voice_id="Tingting")
            )
            assert voices.voice.clip_ms > 1_000
            wanted = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM16, sample_rate_hz=16_000)
            request = speech_pb2.SynthesizeRequest(text="Yes.", audio=wanted)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                async for _ in speech_pb2_grpc.SpeechServiceStub(channel).Synthesize(request, timeout=20):
                    pass
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            await replica.check()
            assert replica.open_sessions == 0
            return await asyncio.to_thread(_page, settings.metrics_listen)

    page = asyncio.run(use())
    assert 'stepaudio_orchestrator_errors_total{reason="ROOM_UNAVAILABLE"} 1.0' in page
    assert "stepaudio_orchestrator_open_sessions 0.0" in page
    assert "stepaudio_orchestrator_away_stores 1.0" in page
    assert f"stepaudio_orchestrator_max_sessions {settings.max_sessions:.1f}" in page
    with pytest.raises(OSError, match="refused"):
        _page(settings.metrics_listen)


@pytest.mark.integration
def test_a_replica_whose_password_the_store_refuses_is_found_once_it_takes_it(
    settings: OrchestratorSettings, tmp_path: Path
) -> None:
    async def use(store: RedisServer) -> list[int]:
        await store.await_ready(timeout_s=30)
        seen: list[int] = []
        async with Redis.from_url(store.url) as admin:
            await admin.config_set("requirepass", "another")
            chosen = settings.model_copy(update={"redis_url": SecretStr(store.url)})
            async with Replica(chosen) as replica, grpc.aio.insecure_channel(replica.address) as channel:
                watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
                async with asyncio.timeout(30):
                    async for answer in watch:
                        seen.append(answer.status)
                        if answer.status == SERVING:
                            break
                        page = await asyncio.to_thread(_page, chosen.metrics_listen)
                        assert "stepaudio_orchestrator_away_stores 1.0" in page
                        await admin.config_set("requirepass", "")
                watch.cancel()
        return seen

    if not is_installed():
        pytest.skip("the Redis server is in the extra `local`")
    store = RedisServer(tmp_path)
    try:
        assert asyncio.run(use(store)) == [NOT_SERVING, SERVING]
    finally:
        store.stop()


@pytest.mark.integration
def test_a_draining_replica_is_not_serving_and_refuses_calls(settings: OrchestratorSettings) -> None:
    async def use() -> None:
        async with Replica(settings) as replica, grpc.aio.insecure_channel(replica.address) as channel:
            await replica.drain(1)
            health = health_pb2_grpc.HealthStub(channel)
            assert (await health.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await voice_pb2_grpc.VoiceServiceStub(channel).ListVoices(voice_pb2.ListVoicesRequest())
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE

    asyncio.run(use())


@pytest.mark.integration
def test_a_replica_whose_port_is_taken_cannot_start_and_leaves_nothing(
    settings: OrchestratorSettings,
) -> None:
    async def use() -> None:
        async with Replica(settings) as first:
            (metrics,) = free_ports(1)
            taken = settings.model_copy(update={"listen": first.address, "metrics_listen": f"127.0.0.1:{metrics}"})
            with pytest.raises(RoomUnavailableError, match="cannot listen"):
                await Replica(taken).__aenter__()
            with pytest.raises(OSError, match="refused"):
                await asyncio.to_thread(_page, taken.metrics_listen)

    asyncio.run(use())


@pytest.mark.integration
def test_a_replica_opens_the_turn_model_that_was_meant_and_no_other(
    settings: OrchestratorSettings, tmp_path: Path
) -> None:
    path = tmp_path / "turns.onnx"
    named = settings.model_copy(update={"turn_model": path, "turn_model_sha256": write_network(path)})

    async def threads_of(chosen: OrchestratorSettings) -> list[str]:
        async with Replica(chosen) as replica:
            await replica.check()
            assert replica.turn_model is not None
            assert 0.0 <= await replica.turn_model.judge(np.zeros(16_000, np.float32)) <= 1.0
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("turn-model")]

    assert asyncio.run(threads_of(named)) == []
    with pytest.raises(CorruptFileError, match="SHA-256"):
        asyncio.run(threads_of(settings.model_copy(update={"turn_model": path})))


@pytest.mark.integration
def test_a_plain_process_serves_until_it_is_asked_to_end(environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment |= {"STEPAUDIO_LOG_FILE": str(log), "STEPAUDIO_DRAIN_GRACE_S": "1"}
    process = _plain(environment)
    while not log.exists() or '"serving"' not in log.read_text():  # the test's own timeout ends a wait without end
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert '"draining"' in log.read_text()


@pytest.mark.integration
def test_a_plain_process_that_cannot_start_names_the_variable(environment: dict[str, str]) -> None:
    process = _plain({**environment, "STEPAUDIO_LISTEN": "0.0.0.0:0"})
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "STEPAUDIO_CREDENTIALS: 0.0.0.0 is open to others" in said


def _plain(environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "services.orchestrator"],
        env={**os.environ, **environment},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _page(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as page:
        text: str = page.read().decode()
    return text


@pytest.mark.integration
def test_a_replica_records_where_it_is_told_to_and_does_not_start_where_it_cannot(
    settings: OrchestratorSettings, tmp_path: Path
) -> None:
    async def use(folder: Path) -> None:
        async with Replica(settings.model_copy(update={"record_folder": folder})):
            assert folder.is_dir()

    assert settings.record_folder is None
    asyncio.run(use(tmp_path / "recordings"))
    (tmp_path / "file").touch()
    with pytest.raises(InvalidOptionError, match="recordings cannot be kept"):
        asyncio.run(use(tmp_path / "file" / "recordings"))
