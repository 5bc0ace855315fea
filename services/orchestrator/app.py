"""The orchestrator under Ray Serve: placement, health, autoscaling on open sessions, and upgrades that drain.

    caller ══ gRPC, every frame ══> grpc.aio server inside the replica ══> Triton, Redis
    Serve  ── a handle, now and then ─> address, health, load

No audio and no event of a conversation crosses a handle. In a cluster each replica has a pod of its own, hence fixed
ports, and an ordinary Service balances the streams.

    serve run services.orchestrator.app:application

Serve counts requests that pass its handles, and there are none: the load is what `record_autoscaling_stats` reports,
and `SessionsPolicy` makes a number of replicas of it.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from services.orchestrator.config import OrchestratorSettings, read_settings
from services.orchestrator.replica import Replica, settle_memory
from services.shared.telemetry.logs import configure_logs

OPEN_SESSIONS: Final = "open_sessions"
_CLOSING_S: Final = 20.0
"""Beyond the grace: last writes and connections."""
_HEALTH_PERIOD_S: Final = 5.0
_HEALTH_TIMEOUT_S: Final = 10.0


class Orchestrator:
    """What Serve makes, asks and destroys; everything else is the replica's."""

    async def __init__(self) -> None:  # type: ignore[misc]  # Serve awaits it, and reports what it raises
        settings = read_settings()
        configure_logs(settings.log_level, file=settings.log_file)
        self._grace_s = settings.drain_grace_s
        self._replica = await Replica(settings).__aenter__()
        settle_memory()

    async def address(self) -> str:
        """Where this replica's public API is."""
        return self._replica.address

    async def check_health(self) -> None:
        """Raise if this replica cannot serve and would be better begun anew."""
        await self._replica.check()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Report the load."""
        return {OPEN_SESSIONS: float(self._replica.open_sessions)}

    async def __del__(self) -> None:  # how Serve says that a replica shuts down; it awaits this one too
        if (replica := getattr(self, "_replica", None)) is not None:  # else it never started
            await replica.drain(self._grace_s)
            await replica.__aexit__(None, None, None)


class SessionsPolicy:
    """How many replicas the open sessions need; Serve's controller makes one and asks it again and again.

    Args:
        target_sessions: that a replica should have.
    """

    def __init__(self, target_sessions: int) -> None:
        self._target_sessions = target_sessions

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:  # the state of a policy is its own
        """The number that is wanted, and no state; Serve holds it to its bounds and delays."""
        reported = (context.aggregated_metrics or {}).get(OPEN_SESSIONS, {})
        return math.ceil(sum(reported.values()) / self._target_sessions), {}


def application(arguments: Mapping[str, str] | None = None) -> serve.Application:
    """The Serve application. Args: arguments: none; Serve passes a mapping."""
    del arguments
    return deployment(read_settings()).bind()


def deployment(settings: OrchestratorSettings) -> serve.Deployment:
    """The deployment with what the settings say of it; each replica reads them anew where it runs."""
    policy = AutoscalingPolicy(
        policy_function=SessionsPolicy, policy_kwargs={"target_sessions": settings.target_sessions}
    )
    deploy = serve.deployment(
        name="orchestrator",
        autoscaling_config=AutoscalingConfig(
            min_replicas=settings.min_replicas, max_replicas=settings.max_replicas, policy=policy
        ),
        ray_actor_options={"num_cpus": 1},
        health_check_period_s=_HEALTH_PERIOD_S,
        health_check_timeout_s=_HEALTH_TIMEOUT_S,
        graceful_shutdown_timeout_s=settings.drain_grace_s + _CLOSING_S,
    )
    return deploy(Orchestrator)
