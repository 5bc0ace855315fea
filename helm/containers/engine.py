"""podman in namespaces of its own, from their start to their certain end. What it runs is the caller's.

    this process --tether--> unshare --kill-child--> first process of the namespaces --> podman, its containers

Each arrow is the kernel's: when the left ends, however that happens, the right is killed, and mounts and the network
go with the namespaces. Control groups are files, so they are removed at the end; images stay in the root's folder.
"""

import json
import os
import resource
import shlex
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from services.local.processes import ChildProcess

_ENTER: Final = Path(__file__).with_name("enter.sh")
_SHELL: Final = "/bin/sh"
_START_S: Final = 30.0
_POLL_S: Final = 0.1
_CLEAN_TRIES: Final = 50
_QUIET: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "PODMAN_IGNORE_CGROUPSV1_WARNING": "true",
}
_REGISTRIES: Final = 'unqualified-search-registries = ["docker.io"]\n'
"""A name without a registry means what it means to a kubelet."""


class EngineError(Exception):
    """A command in the namespaces failed, or they could not be made; the message holds what it said."""


class Engine:
    """Podman, while the context lasts.

    Args:
        root: folder that becomes the root; podman keeps its images below it.
        seen: folders of this machine, and where they are seen, read-only.
        log: file for what the first process says.
    """

    def __init__(self, root: Path, *, seen: Mapping[Path, str], log: Path) -> None:
        self._root = root
        self._seen = seen
        self._log = log
        self._group = f"stepaudio-containers-{os.getpid()}"
        self._child: ChildProcess | None = None
        self._first = 0

    def __enter__(self) -> Self:
        settings = self._root / "etc" / "containers"
        settings.mkdir(parents=True, exist_ok=True)
        (settings / "containers.conf").write_text(f"[containers]\ndefault_ulimits = {_limits()}\n", encoding="utf-8")
        (settings / "registries.conf").write_text(_REGISTRIES, encoding="utf-8")
        pairs = [f"{folder}={place}" for folder, place in self._seen.items()]
        command = [_SHELL, str(_ENTER), "start", self._group, str(self._root.resolve()), *pairs]
        child = ChildProcess("containers", command, environment=dict(os.environ), log=self._log)
        self._child = child
        deadline_s = time.monotonic() + _START_S
        try:
            while not (first := self._namespaces_of(child)):
                if not child.is_running or time.monotonic() > deadline_s:
                    raise EngineError(f"no namespaces: {self._log.read_text(errors='replace').strip()}")
                time.sleep(_POLL_S)
            self._first = first
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.stop(grace_s=0.0)
        for _ in range(_CLEAN_TRIES):  # a killed process leaves its group a moment later
            done = subprocess.run([_SHELL, str(_ENTER), "clean", self._group], capture_output=True, check=False)
            if done.returncode == 0:
                return
            time.sleep(_POLL_S)
        raise EngineError(f"control groups {self._group} are left: {done.stderr.decode(errors='replace')}")

    def podman(
        self,
        *arguments: str,
        timeout_s: float,
        place: str = "inside",
        log: Path | None = None,
        errors_too: bool = False,
    ) -> str:
        """Run podman.

        Args:
            arguments: of podman.
            timeout_s: longest it may take.
            place: "building" keeps this machine's network, which packages come from.
            log: a file for all that it says.
            errors_too: return standard error as well, where containers' logs go.

        Returns:
            its standard output; with a log, all that it says.

        Raises:
            EngineError: it failed.
        """
        command = ["podman", *arguments]
        merge = errors_too or log is not None
        return self._run(place, command, timeout_s=timeout_s, environment=_QUIET, log=log, merge=merge)

    def inspect(self, *arguments: str) -> Any:  # what podman says, in its own shape
        """An answer of podman in JSON."""
        return json.loads(self.podman(*arguments, timeout_s=60))

    def beside(self, *command: str, timeout_s: float, environment: Mapping[str, str]) -> str:
        """Run a program of this machine in the network of the containers.

        Returns:
            its standard output and error.

        Raises:
            EngineError: it failed.
        """
        whole = {**os.environ, **environment}
        return self._run("beside", command, timeout_s=timeout_s, environment=whole, log=None, merge=True)

    def _run(
        self,
        place: str,
        command: Sequence[str],
        *,
        timeout_s: float,
        environment: Mapping[str, str],
        log: Path | None,
        merge: bool,
    ) -> str:
        whole = [_SHELL, str(_ENTER), "run", self._group, str(self._first), place, *command]
        with tempfile.TemporaryFile() if log is None else log.open("w+b") as errors:
            output = errors if merge else subprocess.PIPE
            try:
                done = subprocess.run(
                    whole, stdout=output, stderr=errors, env=dict(environment), timeout=timeout_s, check=False
                )
            except subprocess.TimeoutExpired as error:
                raise EngineError(f"{shlex.join(command[:4])} took more than {timeout_s:.0f} s") from error
            errors.seek(0)
            said = errors.read().decode(errors="replace")
        if done.returncode != 0:
            raise EngineError(f"{shlex.join(command[:6])} ended with {done.returncode}: {said[-3000:].strip()}")
        return said if done.stdout is None else done.stdout.decode(errors="replace")

    def _namespaces_of(self, child: ChildProcess) -> int:
        """The first process once its root is in place; 0 before."""
        for pid in _children(child.pid):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
            except OSError:  # it has ended meanwhile
                continue
            if command == b"catatonit":
                return pid
        return 0


def _limits() -> list[str]:
    """This process's own limits: podman's are higher, and not everyone may raise them."""
    kinds = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    return [f"{name}={':'.join(map(str, resource.getrlimit(kind)))}" for name, kind in kinds.items()]


def _children(pid: int) -> list[int]:
    try:
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
