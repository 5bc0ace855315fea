"""What Ray Serve is told: load, health, and how long a replica may take to drain."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from pydantic import SecretStr

from services.orchestrator.config import OrchestratorSettings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Ray's own use of pydantic
    from ray.serve.config import AutoscalingContext

    from services.orchestrator.app import OPEN_SESSIONS, SessionsPolicy, deployment

pytestmark = pytest.mark.unit


def context(**metrics: dict[str, float]) -> AutoscalingContext:
    """The part of Serve's context that the policy looks at."""
    return cast(AutoscalingContext, SimpleNamespace(aggregated_metrics=metrics))


@pytest.mark.parametrize(("sessions", "replicas"), [([0, 0], 0), ([1, 0], 1), ([100, 100], 2), ([100, 101], 3)])
def test_replicas_follow_the_open_sessions_of_all(sessions: list[float], replicas: int) -> None:
    reported = {f"replica {number}": count for number, count in enumerate(sessions)}
    wanted, state = SessionsPolicy(target_sessions=100)(context(**{OPEN_SESSIONS: reported}))
    assert (wanted, state) == (replicas, {})


def test_before_the_first_report_nothing_is_asked_for() -> None:
    assert SessionsPolicy(target_sessions=100)(context())[0] == 0


def test_serve_waits_longer_than_the_drain_and_scales_by_the_sessions(tmp_path: Path) -> None:
    settings = OrchestratorSettings(
        tokenizer_address="t:1", lm_address="l:1", tts_address="s:1", vocoder_address="v:1",
        redis_url=SecretStr("redis://r"), checkpoints=tmp_path, drain_grace_s=90, min_replicas=2, max_replicas=5,
    )  # fmt: skip
    config = deployment(settings)._deployment_config
    assert config.graceful_shutdown_timeout_s > 90
    assert config.autoscaling_config is not None
    assert (config.autoscaling_config.min_replicas, config.autoscaling_config.max_replicas) == (2, 5)
    policy = config.autoscaling_config.policy
    assert policy.get_policy() is SessionsPolicy
    assert policy.policy_kwargs == {"target_sessions": 100}
