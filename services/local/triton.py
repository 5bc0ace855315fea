"""A Triton server from the nvidia-pytriton wheel, started on our model repository exactly as the container would be.

The wheel's own Python API is not used. It carries the server, the Python backend and one stub for each Python; the
server wants backend and stub in one folder, and finds the stub's Python by the first python3 on PATH.
"""

import importlib.metadata
import os
import platform
import random
import re
import shutil
import socket
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.local.graph_host import GRAPH_ROOMS, ONNX_RUNTIME, TORCH
from services.local.processes import ChildProcess
from services.local.settings import ROOT, LocalSettings
from services.shared.errors import MissingFileError, RoomUnavailableError

WHEEL: Final = "nvidia-pytriton"
_LOOPBACK: Final = "127.0.0.1"
_GRACE_S: Final = 5.0
FIRST_FLOW_STEPS: Final = 3
"""On a CPU a step of the flow takes long; with the nano checkpoint these few sound alike (docs/measurements.md)."""
_LOAD_FAILURE: Final = re.compile(r"failed to load '(\w+)' version \d+: \w+: (.*?)(?:\\n|\"?$)", re.MULTILINE)
"""How the server's log tells why a model could not be loaded; the traceback behind it stays in the log."""
_PORTS: Final = range(20_000, 32_768)
"""Below those that the kernel gives away, above those of Ray's workers."""
_SHARED_MEMORY: Final = "stepaudio_"
_SHARED_MEMORY_FOLDER: Final = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one server, all on loopback."""

    grpc: int
    http: int
    metrics: int


@dataclass(frozen=True, slots=True)
class Backend:
    """What of the wheel a server needs.

    Attributes:
        server: the binary.
        libraries: folder of the libraries it was linked with.
        backends: folder with the Python backend and the stub beside it.
    """

    server: Path
    libraries: Path
    backends: Path


def is_installed() -> bool:
    """Whether the wheel is here."""
    try:
        importlib.metadata.version(WHEEL)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def assemble_backend(folder: Path) -> Backend:
    """Lay the Python backend and this interpreter's stub side by side.

    Args:
        folder: where; made anew.

    Raises:
        MissingFileError: the wheel is not installed, or has no stub for this Python.
    """
    if not is_installed():
        raise MissingFileError(f"{WHEEL} is not installed, so there is no Triton server; install stepaudio[local]")
    site = Path(str(importlib.metadata.distribution(WHEEL).locate_file("")))
    triton = site / "pytriton" / "tritonserver"
    version = ".".join(platform.python_version_tuple()[:2])
    stub = triton / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise MissingFileError(f"{WHEEL} has no stub for Python {version}; use a Python that it has one for")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(triton / "backends", folder)
    shutil.copy2(stub, folder / "python")
    return Backend(triton / "bin" / "tritonserver", site / "nvidia_pytriton.libs", folder)


class TritonServer:
    """The server of one pool.

    Attributes:
        pool: the group of models that it serves.
        ports: where it listens.
        process: the running binary.
    """

    def __init__(self, pool: str, backend: Backend, settings: LocalSettings, ports: Ports) -> None:
        """Start it."""
        self.pool = pool
        self.ports = ports
        self._shared_memory = f"{_SHARED_MEMORY}{os.getpid()}_{pool}_"
        self.process = ChildProcess(
            f"triton-{pool}",
            self._command(backend, settings),
            environment=_environment(backend, settings),
            log=settings.run_folder / f"triton-{pool}.log",
        )

    @property
    def address(self) -> str:
        """Where its gRPC service is."""
        return f"{_LOOPBACK}:{self.ports.grpc}"

    @property
    def metrics_address(self) -> str:
        """Where its /metrics is."""
        return f"{_LOOPBACK}:{self.ports.metrics}"

    def check(self) -> None:
        """Raise RoomUnavailableError, with what its models said, if it has ended."""
        if self.process.is_running:
            return
        said = _LOAD_FAILURE.findall(self.process.log.read_text(errors="replace"))
        reasons = "".join(f"\n  {model}: {reason}" for model, reason in said)
        raise RoomUnavailableError(
            f"{self.process.name} ended with {self.process.exit_code}; its log is {self.process.log}{reasons}"
        )

    def stop(self) -> None:
        """End it and its models' processes, and remove the shared memory of those that were killed."""
        self.process.stop(grace_s=_GRACE_S)
        _remove_shared_memory(self._shared_memory)

    def _command(self, backend: Backend, settings: LocalSettings) -> list[str]:
        first: list[str] = []
        if settings.uses_graphs and self.pool in GRAPH_ROOMS:
            folders = str(settings.checkpoints.resolve()), str(settings.graph_cache.resolve())
            first = [sys.executable, "-m", "services.local.graph_host", self.pool, *folders]
        return [
            *first,
            str(backend.server),
            f"--model-repository={settings.model_repository.resolve() / self.pool}",
            f"--backend-directory={backend.backends.resolve()}",
            f"--backend-config=python,shm-region-prefix-name={self._shared_memory}",
            f"--grpc-address={_LOOPBACK}",
            f"--grpc-port={self.ports.grpc}",
            f"--http-address={_LOOPBACK}",
            f"--http-port={self.ports.http}",
            f"--metrics-address={_LOOPBACK}",
            f"--metrics-port={self.ports.metrics}",
            "--allow-gpu-metrics=false",
            "--disable-auto-complete-config",  # config.pbtxt says all; asking the models would start each of them twice
            "--exit-timeout-secs=3",
        ]


def remove_leftovers() -> None:
    """Remove the shared memory of launchers that were killed before they could."""
    for left in _SHARED_MEMORY_FOLDER.glob(f"{_SHARED_MEMORY}*"):
        launcher = left.name.removeprefix(_SHARED_MEMORY).partition("_")[0]
        if launcher.isdigit() and not Path(f"/proc/{launcher}").exists():
            left.unlink(missing_ok=True)


def free_ports(count: int) -> list[int]:
    """So many ports that are free now, and that nobody is given who asks the kernel for any.

    A server may take minutes to listen, and may be away until it is started again: a port of the kernel's own range
    would meanwhile go to somebody's connection, or to the very client that tries whether the server is there.

    Raises:
        RoomUnavailableError: there are not so many.
    """
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as listener, suppress(OSError):
            listener.bind((_LOOPBACK, port))
            found.append(port)
        if len(found) == count:
            return found
    raise RoomUnavailableError(f"this machine has no {count} ports free in {_PORTS.start} to {_PORTS.stop - 1}")


def _remove_shared_memory(prefix: str) -> None:
    for left in _SHARED_MEMORY_FOLDER.glob(f"{prefix}*"):
        left.unlink(missing_ok=True)


def _environment(backend: Backend, settings: LocalSettings) -> dict[str, str]:
    interpreter = Path(sys.executable).parent
    threads = str(settings.threads)
    return {
        **os.environ,
        "PATH": f"{interpreter}:{os.environ.get('PATH', '')}",
        "PYTHONPATH": str(ROOT),
        "LD_LIBRARY_PATH": f"{backend.libraries}:{sysconfig.get_config_var('LIBDIR')}",
        "STEPAUDIO_CHECKPOINTS": str(settings.checkpoints.resolve()),
        "STEPAUDIO_ENGINE": TORCH if settings.engine == ONNX_RUNTIME else settings.engine,
        "STEPAUDIO_GRAPH_CACHE": str(settings.graph_cache.resolve()),
        "STEPAUDIO_THREADS": threads,
        "STEPAUDIO_FIRST_FLOW_STEPS": os.environ.get("STEPAUDIO_FIRST_FLOW_STEPS", str(FIRST_FLOW_STEPS)),
        "OMP_NUM_THREADS": threads,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
