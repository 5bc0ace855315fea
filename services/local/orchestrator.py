"""The orchestrator on this machine: Ray with one replica, at ports that stay the same when the replica is restarted."""

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from services.local.processes import ChildProcess
from services.local.settings import ROOT, LocalSettings
from services.shared.errors import RoomUnavailableError

_LOOPBACK: Final = "127.0.0.1"
_GRACE_S: Final = 20.0
_DRAIN_GRACE_S: Final = "5"
"""There is no other replica to go to, so callers only get the time to hear of the end."""
_TOOL_CALL_FORM: Final = "pairs"
"""As the nano checkpoint, which is served here, was trained to call functions."""
_LOG_END_BYTES: Final = 600
_LINK: Final = "stepaudio-ray-"
_LINK_FOLDER: Final = Path("/tmp")
"""Not the system's own choice, which may be long: the paths of Ray's sockets begin here and have 107 bytes at most."""


class OrchestratorServer:
    """Ray, Serve and the replica.

    Attributes:
        process: the head, which drives the deployment.
    """

    def __init__(
        self, settings: LocalSettings, *, rooms: dict[str, str], redis_url: str, ports: tuple[int, int]
    ) -> None:
        """Start it.

        Args:
            settings: where everything is.
            rooms: addresses of the Triton servers by pool.
            redis_url: of the store.
            ports: of the public API, and of the metrics.
        """
        self._api_port, self._metrics_port = ports
        folder = (settings.run_folder / "ray").resolve()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._link = _LINK_FOLDER / f"{_LINK}{os.getpid()}"
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(folder)
        self.process = ChildProcess(
            "orchestrator",
            [sys.executable, "-m", "services.local.ray_host", str(self._link)],
            environment=self._environment(settings, rooms, redis_url),
            log=settings.run_folder / "orchestrator.log",
            keep=True,
        )

    @property
    def address(self) -> str:
        """Where the public API is."""
        return f"{_LOOPBACK}:{self._api_port}"

    @property
    def metrics_address(self) -> str:
        """Where its /metrics is."""
        return f"{_LOOPBACK}:{self._metrics_port}"

    def check(self) -> None:
        """Raise RoomUnavailableError, with the end of its log, if it has ended."""
        if self.process.is_running:
            return
        said = self.process.log.read_bytes()[-_LOG_END_BYTES:].decode(errors="replace")
        raise RoomUnavailableError(
            f"{self.process.name} ended with {self.process.exit_code}; its log is {self.process.log}\n{said}"
        )

    def stop(self) -> None:
        """Drain and end it."""
        self.process.stop(grace_s=_GRACE_S)
        self._link.unlink(missing_ok=True)

    def _environment(self, settings: LocalSettings, rooms: dict[str, str], redis_url: str) -> dict[str, str]:
        threads = str(settings.threads)
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": threads,
            "STEPAUDIO_CHECKPOINTS": str(settings.checkpoints.resolve()),
            "STEPAUDIO_LISTEN": self.address,
            "STEPAUDIO_METRICS_LISTEN": self.metrics_address,
            "STEPAUDIO_REDIS_URL": redis_url,
            "STEPAUDIO_LOG_FILE": str((settings.run_folder / "replica.log").resolve()),
            "STEPAUDIO_TOOL_CALL_FORM": os.environ.get("STEPAUDIO_TOOL_CALL_FORM", _TOOL_CALL_FORM),
            "STEPAUDIO_DRAIN_GRACE_S": os.environ.get("STEPAUDIO_DRAIN_GRACE_S", _DRAIN_GRACE_S),
            **{f"STEPAUDIO_{pool.upper()}_ADDRESS": address for pool, address in rooms.items()},
        }


def remove_leftovers() -> None:
    """Remove the links of launchers that were killed before they could."""
    for left in _LINK_FOLDER.glob(f"{_LINK}*"):
        if not Path(f"/proc/{left.name.removeprefix(_LINK)}").exists():
            left.unlink(missing_ok=True)
