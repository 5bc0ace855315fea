"""Twenty callers for ten minutes: ticks missed, memory over time, errors.

    python -m benchmarks.load [--minutes 10] [--sessions 20] [--quick] [--json FILE]

Callers speak and listen in real time, in frames of 20 ms, and hold one conversation of a minute after another. The
server is the real one over stub rooms, see stub_server.py; memory is that of its process, without the callers'. How it
grows is told of the time after the first quarter, when caches and pools are full. A session's memory is what twice as
many callers take more, in fresh servers.

A reply's ticks begin with its first frame; a frame that comes after its tick is late, and one that is later than 20 ms
has missed it. Beside it stands how late the event loops of server and callers kept their own ticks of 20 ms: what the
machine was able to at all.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.report import machine, percentile, table, write_json
from benchmarks.stub_clients import FRAME_S, Manner, ServerProcess, Told, callers, server_process

CONVERSATION_S: Final = 60.0
QUICK_MINUTES: Final = 2.0
SAMPLE_S: Final = 2.0
SETTLING: Final = 0.25
"""Of all samples of memory: while caches and pools fill."""

SESSION_S: Final = 30.0
SESSION_MIB: Final = 2.0

Memory = list[tuple[float, float]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_MINUTES:g} minutes")
    parser.add_argument("--json", type=Path, help="also write memory and lateness to this file")
    arguments = parser.parse_args()
    print(machine())
    minutes = QUICK_MINUTES if arguments.quick else arguments.minutes
    told, memory, loop_lag_s = asyncio.run(measure(arguments.sessions, 60 * minutes))
    session_mib = asyncio.run(measure_session(arguments.sessions))
    print(report(told, memory, loop_lag_s))
    print(f"\na session takes {session_mib:.2f} MiB; at most {SESSION_MIB:g} are wanted")
    for error in told.errors[:5]:
        print(f"error: {error}")
    if arguments.json:
        found = {
            "late_s": told.late_s,
            "memory_s_mib": memory,
            "session_mib": session_mib,
            "loop_lag_s": loop_lag_s,
            "errors": told.errors,
        }
        write_json(arguments.json, found)


async def measure(sessions: int, seconds: float) -> tuple[Told, Memory, list[float]]:
    """Conversation after conversation; what the callers were told, (second, MiB) of the server, its loop's lag."""
    whole = Told()
    memory: Memory = []
    async with server_process("loudness") as server:
        sampling = asyncio.create_task(sample_memory(server, memory))
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 1:
            async with callers(server, sessions, Manner.TURNS, seconds=min(CONVERSATION_S, left_s)) as told:
                pass
            add(whole, told)
        sampling.cancel()
        found = await server.finish()
    return whole, memory, found["loop_lag_s"]


async def measure_session(sessions: int) -> float:
    """MiB of a session: the difference between so many and twice as many, each in a server of its own."""
    sizes = []
    for count in (sessions, 2 * sessions):
        memory: Memory = []
        async with server_process("loudness") as server:
            sampling = asyncio.create_task(sample_memory(server, memory))
            async with callers(server, count, Manner.TURNS, seconds=SESSION_S):
                pass
            sampling.cancel()
        sizes.append(max(size for _, size in memory))
    return (sizes[1] - sizes[0]) / sessions


async def sample_memory(server: ServerProcess, memory: Memory) -> None:
    """Note the server's resident memory until cancelled."""
    begun_s = time.monotonic()
    while True:
        memory.append((time.monotonic() - begun_s, resident_mib(server.pid)))
        await asyncio.sleep(SAMPLE_S)


def resident_mib(process: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def add(whole: Told, told: Told) -> None:
    """Put what was told to one round of callers to the rest."""
    whole.sent += told.sent
    whole.received += told.received
    whole.turns += told.turns
    whole.late_s += told.late_s
    whole.own_late_s += told.own_late_s
    whole.errors += told.errors


def slope_mib_per_minute(memory: Sequence[tuple[float, float]]) -> float:
    """How memory grows, by least squares over all but the first samples."""
    settled = np.array(memory[int(SETTLING * len(memory)) :])
    return float(60 * np.polyfit(settled[:, 0], settled[:, 1], 1)[0])


def report(told: Told, memory: Memory, loop_lag_s: Sequence[float]) -> str:
    """All tables."""
    ticks = [
        _line("reply frames at the callers", told.late_s),
        _line("the server's event loop", loop_lag_s),
        _line("the callers' own frames", told.own_late_s),
    ]
    sizes = [size for _, size in memory[int(SETTLING * len(memory)) :]]
    return "\n".join(
        [
            f"{told.turns} turns, {told.sent} frames sent, {told.received} received, {len(told.errors)} errors\n",
            table(("late by, in ms", "ticks", "median", "95 %", "99 %", "largest", "missed"), ticks),
            "",
            table(
                ("server's memory", "MiB"),
                [
                    ("after settling", f"{sizes[0]:.1f}"),
                    ("at the end", f"{sizes[-1]:.1f}"),
                    ("largest", f"{max(sizes):.1f}"),
                    ("growth a minute", f"{slope_mib_per_minute(memory):+.2f}"),
                ],
            ),
        ]
    )


def _line(name: str, late_s: Sequence[float]) -> tuple[str, ...]:
    figures = (f"{1000 * percentile(late_s, share):.1f}" for share in (50, 95, 99, 100))
    missed = sum(late > FRAME_S for late in late_s)
    return (name, str(len(late_s)), *figures, f"{missed} ({100 * missed / max(1, len(late_s)):.2f} %)")


if __name__ == "__main__":
    main()
