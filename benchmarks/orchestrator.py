"""What the orchestrator costs, and how fast it decides, with rooms that take no time of its processor.

    python -m benchmarks.orchestrator [--quick] [--json FILE]

 * cost: processor time of the server for each 20 ms frame of a session, one in and one out, above that of a bare
   grpc.aio server which answers the same messages. Both run in processes of their own, driven in turn by the same
   paced callers; the callers' own cost is in a third process and not counted.
 * decision: from the end of the user's turn to the request to the lm, over many turns of 20 callers at once.

See stub_server.py for what stands behind the server, and stub_clients.py for what the callers do.
"""

import argparse
import asyncio
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.processor import processor_s
from benchmarks.report import machine, percentile, table, write_json
from benchmarks.stub_clients import Manner, ServerProcess, callers, server_process

SETTLE_S: Final = 4.0
"""A reply begins with audio sent 3 s ahead; then it keeps pace."""
CALLERS: Final = 20
KINDS: Final = ("echo", "scripted", "silero")
Costs = dict[tuple[int, str], list[float]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: numbers of sessions, rounds by turns, and seconds of each and of the turns."""

    sessions: tuple[int, ...]
    rounds: int
    window_s: float
    turns_s: float


FULL: Final = Plan((1, 5, 20), 4, 8.0, 60.0)
QUICK: Final = Plan((5, 20), 2, 5.0, 20.0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    arguments = parser.parse_args()
    print(machine())
    plan = QUICK if arguments.quick else FULL
    costs = asyncio.run(measure_costs(plan))
    print(cost_table(costs, plan.sessions))
    waits_s, errors = asyncio.run(measure_decisions(plan.turns_s))
    figures = [f"{1000 * percentile(waits_s, share):.2f}" for share in (50, 95, 99, 100)]
    print()
    print(f"from the end of a turn to the request to the lm, {CALLERS} callers:\n")
    print(table(("turns", "median ms", "95 %", "99 %", "largest", "errors"), [(len(waits_s), *figures, errors)]))
    if arguments.json:
        found = {f"{sessions} {kind}": values for (sessions, kind), values in costs.items()}
        write_json(arguments.json, {"cost_us": found, "first_request_s": waits_s})


async def measure_costs(plan: Plan) -> Costs:
    """Microseconds of each window, by number of sessions and kind of server; the kinds take turns."""
    costs: Costs = {(sessions, kind): [] for sessions in plan.sessions for kind in KINDS}
    async with server_process("echo") as echo, server_process("scripted") as stub, server_process("silero") as silero:
        servers = dict(zip(KINDS, (echo, stub, silero), strict=True))
        for _ in range(plan.rounds):
            for sessions in plan.sessions:
                for kind, server in servers.items():
                    costs[sessions, kind].append(await cost_us(server, sessions, plan.window_s))
    return costs


async def cost_us(server: ServerProcess, sessions: int, window_s: float) -> float:
    """Processor time of the server for each frame in and out, in microseconds."""
    async with callers(server, sessions, Manner.STEADY, seconds=SETTLE_S + window_s + 0.5) as told:
        await asyncio.sleep(SETTLE_S)
        sent, received, used_s = told.sent, told.received, processor_s([server.pid])
        await asyncio.sleep(window_s)
        used_s = processor_s([server.pid]) - used_s
        frames = (told.sent - sent + told.received - received) / 2
    if told.errors:
        raise RuntimeError(f"a caller failed: {told.errors[0]}")
    return 1e6 * used_s / frames


async def measure_decisions(seconds: float) -> tuple[list[float], int]:
    """Waits in seconds, and how many callers or turns failed."""
    async with server_process("loudness") as server:
        async with callers(server, CALLERS, Manner.TURNS, seconds=seconds) as told:
            pass
        found = await server.finish()
    return found["first_request_s"], len(told.errors)


def cost_table(costs: Mapping[tuple[int, str], Sequence[float]], sessions: Sequence[int]) -> str:
    """Medians, and what stands above the echo within each round."""
    rows = []
    for count in sessions:
        echo = costs[count, "echo"]
        for kind in KINDS:
            above = statistics.median(cost - bare for cost, bare in zip(costs[count, kind], echo, strict=True))
            shown = "" if kind == "echo" else f"{above:.0f}"
            rows.append((count, kind, f"{statistics.median(costs[count, kind]):.0f}", shown))
    return table(("sessions", "server", "microseconds a frame both ways", "above the echo"), rows)


if __name__ == "__main__":
    main()
