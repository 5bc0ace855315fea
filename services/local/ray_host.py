"""A Ray cluster of this one machine and the orchestrator on it, until SIGTERM: `… -m services.local.ray_host FOLDER`.

The same application and the same Serve as in a cluster; only the cluster is trimmed (field figures: a bare head takes
400 MiB and 10 s). Head and driver are one process. It ends everything it started when it is asked to; when it is
killed, its keeper does.

FOLDER is where Ray keeps its sessions and logs; sockets lie in it, whose paths may have 107 bytes, so it is short.
"""

import asyncio
import os
import secrets
import signal
import sys
from typing import Any, Final

os.environ.update(  # before Ray is imported: it reads them then
    RAY_USAGE_STATS_ENABLED="0",
    RAY_enable_metrics_collection="0",
    RAY_SERVE_CONTROL_LOOP_INTERVAL_S="0.5",
    RAY_worker_niceness="0",  # Ray's is 15: rooms that work would keep the replica waiting, which is heard
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",  # listen on loopback only, on Linux too
    RAY_AUTH_MODE="token",  # and, for the one port that Serve opens everywhere, let nobody in
    RAY_AUTH_TOKEN=secrets.token_hex(32),
)
os.environ.pop("RAY_ADDRESS", None)  # a cluster of our own, never somebody else's

import ray
from ray import serve
from ray.serve.config import ProxyLocation

APP: Final = "stepaudio"
_OBJECT_STORE_BYTES: Final = 100 * 2**20


def host(application: Any, folder: str) -> None:  # Serve's Application is generic over what nobody here knows
    """Run an application until SIGTERM or SIGINT; before it runs, they end this process at once."""
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        log_to_driver=False,
        namespace=APP,
        _temp_dir=folder,
    )
    serve.start(proxy_location=ProxyLocation.Disabled)
    serve.run(application, name=APP, route_prefix=None)
    asyncio.run(_until_asked_to_stop())
    serve.shutdown()  # drains the replicas
    ray.shutdown()


async def _until_asked_to_stop() -> None:
    """Wait for a signal, whichever thread of Ray's the kernel gives it to."""
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    await asked.wait()


if __name__ == "__main__":
    from services.orchestrator.app import application

    host(application(), sys.argv[1])
