"""What it costs to listen to many callers: Silero's share of a core, and what a pass of its network takes.

   python -m benchmarks.voice_activity [--sessions 50] [--quick] [--json FILE]

* a core: streams that each ask for a frame every 32 ms, spread evenly, as callers' audio comes. Processor time of all
  threads over the time that went by; the same streams with a detector that answers at once show what asking alone
  takes. How long an answer takes is there too: it is added to every end of a turn.
* a pass: the network's own processor time for each frame of a batch, which shows what sharing a pass saves.
"""

import argparse
import asyncio
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import uvloop

from benchmarks.report import machine, percentile, table, write_json
from services.orchestrator.adapters.silero import SileroDetector
from services.orchestrator.adapters.silero_network import Memory, SileroNetwork
from services.orchestrator.ports.hearing import FRAME_SAMPLES, VoiceActivityDetector
from services.shared.audio.pcm import Samples
from tests.fakes.hearing import ScriptedDetector

FRAME_S: Final = FRAME_SAMPLES / 16_000
SETTLE_S: Final = 1.0
WINDOW_S: Final = 10.0
QUICK_S: Final = 4.0
ROUNDS: Final = 3
BATCHES: Final = (1, 2, 4, 8, 16, 32, 50)
PASSES: Final = 200
AIM: Final = 0.25
"""Of a core, for 50 sessions."""


@dataclass(slots=True)
class Heard:
    """What came of one window: the share of a core, and how long each answer took."""

    core: float = 0.0
    waits_s: list[float] = field(default_factory=list)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    arguments = parser.parse_args()
    print(machine())
    sessions, window_s = arguments.sessions, QUICK_S if arguments.quick else WINDOW_S
    found: dict[str, list[Heard]] = {"silero": [], "answers at once": []}
    for _ in range(ROUNDS):
        with closing(SileroDetector()) as silero:
            found["silero"].append(uvloop.run(listen(silero, sessions, window_s)))
        found["answers at once"].append(uvloop.run(listen(ScriptedDetector(), sessions, window_s)))
    frame_us = {batch: pass_us(batch) / batch for batch in BATCHES}
    print(share_table(found, sessions))
    print()
    print(table(("frames in a pass", "microseconds a frame"), [(b, f"{us:.0f}") for b, us in frame_us.items()]))
    if arguments.json:
        shares = {name: [heard.core for heard in rounds] for name, rounds in found.items()}
        write_json(arguments.json, {"sessions": sessions, "core": shares, "frame_us": frame_us})


async def listen(detector: VoiceActivityDetector, sessions: int, window_s: float) -> Heard:
    """Let so many streams ask, in real time."""
    heard = Heard()
    begins_s = time.monotonic() + 0.1
    ends_s = begins_s + SETTLE_S + window_s
    async with asyncio.TaskGroup() as streams:
        for place in range(sessions):
            streams.create_task(ask(detector, begins_s + place * FRAME_S / sessions, ends_s, heard))
        await asyncio.sleep(begins_s + SETTLE_S - time.monotonic())
        heard.waits_s.clear()
        used_s, at_s = time.process_time(), time.monotonic()
        await asyncio.sleep(ends_s - at_s)
        heard.core = (time.process_time() - used_s) / (time.monotonic() - at_s)
    return heard


async def ask(detector: VoiceActivityDetector, due_s: float, ends_s: float, heard: Heard) -> None:
    """One stream."""
    with closing(detector.open()) as activity:
        while due_s < ends_s:
            await asyncio.sleep(max(due_s - time.monotonic(), 0.0))
            asked_s = time.monotonic()
            await activity.judge(FRAME)
            heard.waits_s.append(time.monotonic() - asked_s)
            due_s += FRAME_S


def pass_us(batch: int) -> float:
    """Processor time of a pass, the least of several looks."""
    network = SileroNetwork()
    memories = [Memory() for _ in range(batch)]
    frames = [FRAME] * batch
    return 1e6 * min(_thread_s(lambda: network.judge(memories, frames)) for _ in range(ROUNDS))


def _thread_s(work: Callable[[], object]) -> float:
    work()
    used_s = time.thread_time()
    for _ in range(PASSES):
        work()
    return (time.thread_time() - used_s) / PASSES


def share_table(found: dict[str, list[Heard]], sessions: int) -> str:
    """Medians over the rounds, and answers of all of them."""
    rows = []
    for name, rounds in found.items():
        cores = sorted(heard.core for heard in rounds)
        waits_s = [wait_s for heard in rounds for wait_s in heard.waits_s]
        figures = (f"{1000 * percentile(waits_s, share):.1f}" for share in (50, 99))
        rows.append((name, f"{100 * cores[len(cores) // 2]:.1f} %", *figures))
    rows.append(("wanted", f"{100 * AIM * sessions / 50:.1f} %", "", ""))
    return table((f"{sessions} sessions", "of a core", "answer after ms, median", "99 %"), rows)


FRAME: Final[Samples] = np.random.default_rng(1).normal(0, 0.05, FRAME_SAMPLES).astype(np.float32)


if __name__ == "__main__":
    main()
