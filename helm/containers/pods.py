"""The pods of the rendered chart in podman: started, asked until they work, looked at, stopped."""

import base64
import dataclasses
import hashlib
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from helm.containers.engine import Engine, EngineError
from helm.containers.manifests import Play, Resource, plan
from helm.tools import find_helm
from services.local.settings import ROOT

RELEASE: Final = "voice"
NAMESPACE: Final = "stepaudio"
_CHART: Final = ROOT / "helm" / "stepaudio"
_NETWORK: Final = "cluster"
_API_PORT: Final = 8443
_STORE: Final = "redis"
_TRY_S: Final = 60.0
_PLAY_S: Final = 300.0
_STOP_S: Final = 300.0
_RETRY_S: Final = 1.0


def render() -> tuple[Resource, ...]:
    """The chart with preset nano and without TLS, as docs/operations.md installs it on one machine."""
    command = [str(find_helm()), "template", RELEASE, str(_CHART), "--namespace", NAMESPACE]
    command += ["--values", str(_CHART / "values" / "nano.yaml")]
    command += ["--set", "api.tls.enabled=false", "--set", "redis.tls.enabled=false"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return tuple(one for one in yaml.safe_load_all(done.stdout) if one)


class Pods:
    """All pods of one chart.

    Args:
        resources: the rendered chart.
        folder: for what podman reads; it is seen at /play.

    Attributes:
        plan: what is played, and what is not.
        token: of the caller who may speak.
        stops: after the end, seconds that each pod took to stop.
    """

    def __init__(self, resources: Sequence[Resource], folder: Path) -> None:
        self.folder = folder
        self.token = secrets.token_hex(32)
        digest = hashlib.sha256(self.token.encode()).hexdigest()
        self._secrets = {
            ("stepaudio-credentials", "credentials.json"): json.dumps({"tokens": {digest: "first-tenant"}}),
            ("stepaudio-redis", "password"): secrets.token_hex(32),
        }  # what docs/operations.md has the installer make
        self.plan = plan(resources, secrets=self._secrets)
        self.stops: dict[str, float] = {}
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def images(self) -> dict[str, str]:
        """Service to the full name of its image, the store's left out."""
        return {play.component: _image(play) for play in self.plan.plays if play.component != _STORE}

    @property
    def store_image(self) -> str:
        """The image that the chart wants for the store."""
        (found,) = (_image(play) for play in self.plan.plays if play.component == _STORE)
        return found

    @contextmanager
    def playing(self, engine: Engine) -> Iterator[None]:
        """Run them in a network without a way out; afterwards stop and remove them all.

        Raises:
            EngineError: podman does not take a manifest, or a container does not start.
        """
        self._clear(engine)  # of what a run that was killed has left
        engine.podman("network", "create", "--internal", _NETWORK, timeout_s=_TRY_S)
        begun: list[Play] = []
        try:
            given = self._write("secrets", [_secret(*one) for one in self._secrets.items()])
            engine.podman("kube", "play", given, timeout_s=_PLAY_S)
            for play in self.plan.plays:
                begun.append(play)
                network = f"{_NETWORK}:{','.join(f'alias={name}' for name in play.aliases)}"
                path = self._write(play.pod, play.documents)
                engine.podman("kube", "play", f"--network={network}", path, timeout_s=_PLAY_S)
            yield
        finally:
            (self.folder / "secrets.yaml").unlink(missing_ok=True)
            for play in begun:
                started_s = time.monotonic()
                engine.podman("kube", "down", f"/play/{play.pod}.yaml", timeout_s=_STOP_S)
                self.stops[play.component] = round(time.monotonic() - started_s, 1)
            self._clear(engine)

    def wait(self, engine: Engine) -> list[dict[str, Any]]:
        """Ask all probes, and each room for an inference, until all is well.

        Returns:
            for each pod what was asked and the seconds until it was answered.

        Raises:
            EngineError: one is not ready in the time that its startup probe gives; the message has its log.
        """
        started_s = time.monotonic()
        ready: list[dict[str, Any]] = []
        targets = []
        for play in self.plan.plays:
            for probe in play.probes:
                if probe.kind == "exec":
                    self._until_exec(engine, probe.container, probe.command, patience_s=probe.patience_s)
                    seconds = round(time.monotonic() - started_s, 1)
                    ready.append({"component": play.component, "probe_s": seconds, "inference_s": None})
                    continue
                asked = dataclasses.asdict(probe)
                asked.pop("container")
                asked.pop("command")
                targets.append({"component": play.component, "host": self._address(engine, play), **asked})
        listed = self.folder / "targets.json"
        listed.write_text(json.dumps(targets), encoding="utf-8")
        longest_s = 2 * max(one["patience_s"] for one in targets) + _TRY_S
        command = [sys.executable, "-m", "helm.containers.probes", str(listed)]
        try:
            said = engine.beside(*command, timeout_s=longest_s, environment={"PYTHONPATH": str(ROOT)})
        except EngineError as error:
            raise EngineError(f"{error}\n{self._logs(engine)}") from error
        return ready + [json.loads(line) for line in said.splitlines() if line.startswith("{")]

    def state(self, engine: Engine) -> list[dict[str, Any]]:
        """Of each container what the engine really enforces, and what it uses."""
        used = {one["name"]: one["mem_usage"] for one in engine.inspect("stats", "--no-stream", "--format=json")}
        found = []
        for play in self.plan.plays:
            for probe in play.probes:
                (one,) = engine.inspect("container", "inspect", probe.container)
                found.append(
                    {
                        "container": probe.container,
                        "running": one["State"]["Running"],
                        "restarts": one["RestartCount"],
                        "user": one["Config"]["User"],
                        "read_only": one["HostConfig"]["ReadonlyRootfs"],
                        "capabilities": one["EffectiveCaps"],
                        "memory_limit_mib": one["HostConfig"]["Memory"] // 2**20,
                        "memory": used.get(probe.container),
                    }
                )
        return found

    def api(self, engine: Engine) -> str:
        """Where callers call."""
        (play,) = (one for one in self.plan.plays if one.component == "orchestrator")
        return f"{self._address(engine, play)}:{_API_PORT}"

    def _clear(self, engine: Engine) -> None:
        engine.podman("pod", "rm", "--all", "--force", timeout_s=_STOP_S)
        engine.podman("volume", "rm", "--all", "--force", timeout_s=_TRY_S)
        engine.podman("secret", "rm", "--all", timeout_s=_TRY_S)
        engine.podman("network", "rm", "--force", _NETWORK, timeout_s=_TRY_S)

    def _address(self, engine: Engine, play: Play) -> str:
        (infra,) = (one["InfraContainerID"] for one in engine.inspect("pod", "inspect", play.pod))
        (found,) = engine.inspect("container", "inspect", infra)
        address: str = found["NetworkSettings"]["Networks"][_NETWORK]["IPAddress"]
        return address

    def _until_exec(self, engine: Engine, container: str, command: Sequence[str], *, patience_s: float) -> None:
        deadline_s = time.monotonic() + patience_s
        while True:
            try:
                engine.podman("exec", container, *command, timeout_s=_TRY_S)
                return
            except EngineError as error:
                if time.monotonic() > deadline_s:
                    raise EngineError(f"{error}\n{self._logs(engine)}") from error
            time.sleep(_RETRY_S)

    def _logs(self, engine: Engine) -> str:
        """The last lines of every pod."""
        texts = []
        for play in self.plan.plays:
            try:
                last = engine.podman("pod", "logs", "--tail=15", play.pod, timeout_s=_TRY_S, errors_too=True)
            except EngineError as error:
                last = str(error)
            texts.append(f"--- {play.pod}\n{last}")
        return "\n".join(texts)

    def _write(self, name: str, documents: Sequence[Resource]) -> str:
        path = self.folder / f"{name}.yaml"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
        return f"/play/{path.name}"


def _secret(place: tuple[str, str], value: str) -> Resource:
    name, key = place
    metadata = {"name": name, "namespace": NAMESPACE}
    data = {key: base64.b64encode(value.encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def _image(play: Play) -> str:
    """Its full name: what has no registry is the first registry's, as for a kubelet."""
    spec = play.documents[-1]["spec"]
    containers = spec.get("template", {}).get("spec", spec)["containers"]
    (image,) = (one["image"] for one in containers)
    first = image.split("/")[0]
    return str(image) if "." in first else f"docker.io/{image}"
