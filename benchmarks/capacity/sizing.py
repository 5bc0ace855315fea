"""The fewest servers with which a number of conversations keeps the objectives."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.capacity.laws import POOLS, Deployment
from benchmarks.capacity.simulation import Seen, simulate
from benchmarks.capacity.workload import Habits, everyday_turn
from benchmarks.report import percentile

MAX_GROWTHS: Final = 40
GROWTH: Final = 0.15
SHARES_REMOVED: Final = (0.5, 0.25, 0.1, 0.0)
"""Of a pool's servers, tried one after the other; the last stands for a single server."""
ENOUGH_TURNS: Final = 3000


@dataclass(frozen=True, slots=True)
class Objectives:
    """What good conversations are; the defaults are those of the alerts (monitoring/objectives.py).

    Attributes:
        first_audio_s: from the end of speech, endpointing included, in 95 of 100 turns.
        underruns: share of turns in which the listener's buffer may run dry.
    """

    first_audio_s: float = 1.5
    underruns: float = 0.01

    def kept(self, seen: Seen) -> bool:
        """Whether they were."""
        return (
            seen.turns > 0
            and percentile(seen.first_audio_s, 95) <= self.first_audio_s
            and seen.underrun_turns <= self.underruns * seen.turns
        )


@dataclass(frozen=True, slots=True)
class Size:
    """An answer: the deployment and what was seen of it."""

    conversations: int
    deployment: Deployment
    seen: Seen


class UnreachableError(Exception):
    """No number of servers keeps the objectives: their passes alone take too long."""


def run(deployment: Deployment, conversations: int) -> Seen:
    """Simulate everyday turns for as long as tells something of rare events."""
    seconds = min(600.0, max(40.0, 12.0 * ENOUGH_TURNS / conversations))
    return simulate(deployment, conversations, everyday_turn, habits=Habits(), seconds=seconds, warm_up_s=30.0)


def size(
    deployment: Deployment,
    conversations: int,
    objectives: Objectives,
    *,
    observe: Callable[[Deployment, int], Seen] = run,
) -> Size:
    """Let pools grow until the objectives are kept, then take away what is not needed, the dearest first.

    Args:
        deployment: one unit of it; its servers are where the search begins.
        conversations: that are open at once.
        objectives: to keep.
        observe: simulates.

    Raises:
        UnreachableError: more servers do not help.
    """
    found = deployment
    seen = observe(found, conversations)
    for _ in range(MAX_GROWTHS):
        if objectives.kept(seen):
            return _smaller(Size(conversations, found, seen), objectives, observe)
        found = _grown(found, _bottleneck(seen))
        seen = observe(found, conversations)
    raise UnreachableError(f"{conversations} conversations: first audio {percentile(seen.first_audio_s, 95):.2f} s")


def scaled(answer: Size, conversations: int) -> Deployment:
    """The same servers for each conversation."""
    factor = conversations / answer.conversations
    return _with_servers(
        answer.deployment, {name: math.ceil(answer.deployment.pool(name).servers * factor) for name in POOLS}
    )


def delays_ms(seen: Seen) -> dict[str, float]:
    """How long a turn was held up in each pool by other turns, all its requests together."""
    return {name: 1000 * seen.delayed_s[name] / seen.turns for name in POOLS}


def _smaller(answer: Size, objectives: Objectives, observe: Callable[[Deployment, int], Seen]) -> Size:
    by_price = sorted(POOLS, key=lambda name: -answer.deployment.pool(name).gpus)
    for name in by_price:
        for share in SHARES_REMOVED:
            while True:
                servers = answer.deployment.pool(name).servers
                fewer = servers - max(1, math.floor(share * servers))
                if fewer < 1:
                    break
                tried = _with_servers(answer.deployment, {name: fewer})
                seen = observe(tried, answer.conversations)
                if not objectives.kept(seen):
                    break
                answer = Size(answer.conversations, tried, seen)
    return answer


def _bottleneck(seen: Seen) -> str:
    """The pool whose requests are held up most by each other."""
    return max(POOLS, key=lambda name: seen.delayed_s[name])


def _grown(deployment: Deployment, name: str) -> Deployment:
    servers = deployment.pool(name).servers
    return _with_servers(deployment, {name: servers + max(1, round(GROWTH * servers))})


def _with_servers(deployment: Deployment, servers: Mapping[str, int]) -> Deployment:
    pools = {name: replace(deployment.pool(name), servers=number) for name, number in servers.items()}
    return replace(deployment, **pools)  # type: ignore[arg-type]  # the pools' fields only
