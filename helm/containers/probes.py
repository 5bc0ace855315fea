"""Asks what the kubelet would ask, then what only a working room answers: `python -m helm.containers.probes FILE`.

It runs beside the containers, in their network. FILE is JSON: a list of targets. Probes that run a command inside a
container are the caller's. Prints one line of JSON for each target, as it becomes ready.
"""

import asyncio
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.local.readiness import await_ready
from services.shared.errors import StepAudioError
from services.shared.triton import POOLS

_TRY_S: Final = 3.0
_RETRY_S: Final = 0.5
_OWN_CONNECTION: Final = (("grpc.use_local_subchannel_pool", 1),)


@dataclass(frozen=True, slots=True)
class Target:
    """One probe of one pod.

    Attributes:
        component: what the pod is.
        kind: grpc or httpGet.
        host: of the pod.
        port, path: what the probe names.
        patience_s: how long it may take.
    """

    component: str
    kind: str
    host: str
    port: int
    path: str
    patience_s: float


def main() -> int:
    """Ask every target until it is ready.

    Returns:
        0 once all are, 1 as soon as one is not in time.
    """
    targets = [Target(**one) for one in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))]
    return asyncio.run(_all(targets))


async def _all(targets: list[Target]) -> int:
    failed = 0
    try:
        async with asyncio.TaskGroup() as group:
            for target in targets:
                group.create_task(_until_ready(target))
    except* (StepAudioError, TimeoutError) as errors:
        for error in errors.exceptions:
            sys.stdout.write(f"{error}\n")
        failed = 1
    return failed


async def _until_ready(target: Target) -> None:
    started_s = time.monotonic()
    while not await _KINDS[target.kind](target):
        if time.monotonic() - started_s > target.patience_s:
            raise TimeoutError(f"{target.component}: its {target.kind} probe was not answered in {target.patience_s} s")
        await asyncio.sleep(_RETRY_S)
    probed_s = time.monotonic() - started_s
    if target.component in POOLS:
        address = f"{target.host}:{target.port}"
        await await_ready(target.component, address, timeout_s=target.patience_s, check=_nothing_ends)
    answered_s = time.monotonic() - started_s
    line: Mapping[str, object] = {
        "component": target.component,
        "probe_s": round(probed_s, 1),
        "inference_s": round(answered_s, 1) if target.component in POOLS else None,
    }
    sys.stdout.write(f"{json.dumps(line)}\n")
    sys.stdout.flush()


def _nothing_ends() -> None:
    """Whether a container still runs is the caller's to know."""


async def _grpc(target: Target) -> bool:
    async with grpc.aio.insecure_channel(f"{target.host}:{target.port}", options=_OWN_CONNECTION) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_TRY_S)
        except grpc.aio.AioRpcError:  # not there yet
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _http(target: Target) -> bool:
    def ask() -> bool:
        try:
            with urllib.request.urlopen(f"http://{target.host}:{target.port}{target.path}", timeout=_TRY_S) as page:
                return bool(page.status == 200)
        except (urllib.error.URLError, TimeoutError):  # not there yet
            return False

    return await asyncio.to_thread(ask)


_KINDS: Final[Mapping[str, Callable[[Target], Awaitable[bool]]]] = {"grpc": _grpc, "httpGet": _http}

if __name__ == "__main__":
    sys.exit(main())
