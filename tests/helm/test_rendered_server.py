"""A real Triton server takes the very arguments and environment that the chart renders for a room of preset nano."""

import os
import socket
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from services.local.processes import ChildProcess
from services.local.settings import ROOT
from services.local.triton import Backend, Ports, assemble_backend, free_ports, is_installed
from tests.helm.conftest import Chart
from tests.helm.manifests import named

pytestmark = pytest.mark.integration

_START_S = 60.0
ROOM = "lm"


@dataclass(frozen=True, slots=True)
class Served:
    """The running room, and where it would listen."""

    channel: grpc.Channel
    ports: Ports


@pytest.fixture(scope="module")
def server(chart: Chart, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Start the room as its container would."""
    if not is_installed():
        pytest.skip("needs the tritonserver of stepaudio[local]")
    scratch = tmp_path_factory.mktemp("triton")
    backend = assemble_backend(scratch / "backends")
    ports = Ports(*free_ports(3))
    deployment = named(chart.render("nano"), "Deployment", f"release-{ROOM}")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    arguments = [_here(text, ports.grpc, ports.metrics) for text in container["args"]]
    environment = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    environment["STEPAUDIO_CHECKPOINTS"] = str(ROOT / "model_repository" / "checkpoints" / "nano")
    command = [str(backend.server), f"--backend-directory={backend.backends}", f"--http-port={ports.http}", *arguments]
    process = ChildProcess(ROOM, command, environment=_environment(environment, backend), log=scratch / "log")
    try:
        with grpc.insecure_channel(f"127.0.0.1:{ports.grpc}") as channel:
            _wait(channel, process)
            yield Served(channel, ports)
    finally:
        process.stop(grace_s=10)


def test_the_probe_of_the_pod_is_answered(server: Served) -> None:
    answer = health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_nobody_loads_a_model_or_registers_shared_memory(server: Served) -> None:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(server.channel)
    calls = [
        lambda: stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name="step1_chat")),
        lambda: stub.RepositoryIndex(service_pb2.RepositoryIndexRequest()),
        lambda: stub.SystemSharedMemoryStatus(service_pb2.SystemSharedMemoryStatusRequest()),
        lambda: stub.LogSettings(service_pb2.LogSettingsRequest()),
    ]
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert "restricted" in str(caught.value)


def test_no_http_is_spoken(server: Served) -> None:
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", server.ports.http)) != 0


def test_the_metrics_that_scaling_reads_are_there(server: Served) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports.metrics}/metrics", timeout=5) as page:
        text = page.read().decode()
    assert "stepaudio_step1_chat_open_requests" in text
    assert "nv_inference_queue_duration_us" in text


def _here(argument: str, grpc_port: int, metrics_port: int) -> str:
    """An argument of the container with this machine's paths, addresses and ports."""
    return (
        argument.replace("/opt/stepaudio/model_repository", str(ROOT / "model_repository"))
        .replace("0.0.0.0", "127.0.0.1")
        .replace("=8001", f"={grpc_port}")
        .replace("=8002", f"={metrics_port}")
        .replace("$(POD_UID)", "a-pod")
    )


def _environment(room: Mapping[str, str], backend: Backend) -> dict[str, str]:
    """What the image sets, and what the chart does."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LD_LIBRARY_PATH": f"{backend.libraries}:{sysconfig.get_config_var('LIBDIR')}",
        **room,
    }


def _wait(channel: grpc.Channel, process: ChildProcess) -> None:
    """Until it serves, as a startup probe would."""
    stub = health_pb2_grpc.HealthStub(channel)
    deadline_s = time.monotonic() + _START_S
    while True:
        assert process.is_running, process.log.read_text(errors="replace")[-2000:]
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
        except grpc.RpcError:  # not there yet
            time.sleep(0.2)
        assert time.monotonic() < deadline_s, process.log.read_text(errors="replace")[-2000:]
