"""Conversations for minutes, paced as people speak, through the real rooms: `python -m benchmarks.soak`.

Each session asks its question aloud, hears the reply out, and asks again. What is looked for is growth: of memory, of
the event loop's tasks, of anything in the rooms. Sound that is late shows as turns a minute, not as an error.
"""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.faults import LEFT_BEHIND, RATE_HZ, TASKS, question
from benchmarks.live_system import LiveSystem
from benchmarks.report import machine, table
from protos.gen.stepaudio.v1 import session_pb2
from services.local.record import ORCHESTRATOR
from stepaudio import Conversation
from stepaudio.sources import paced

_SAMPLES: Final = 4
"""Looks at the memory, the first a quarter of the time in, when all is warm."""


async def talk(address: str, until_s: float, outcomes: Counter[str]) -> None:
    """Hold one conversation until a moment; the microphone stays open."""
    silence = np.zeros(RATE_HZ // 5, np.float32)
    async with Conversation(address) as conversation:
        is_answered = asyncio.Event()

        async def listen() -> None:
            async for event in conversation:
                if event.HasField("turn_ended"):
                    outcomes[session_pb2.TurnOutcome.Name(event.turn_ended.record.outcome)] += 1
                    is_answered.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(listen())
            while time.monotonic() < until_s:
                is_answered.clear()
                async for piece in paced(question(), RATE_HZ):
                    await conversation.send_audio(piece)
                while not is_answered.is_set():
                    async for piece in paced(silence, RATE_HZ):
                        await conversation.send_audio(piece)
            await conversation.end_input()


async def soak(system: LiveSystem, *, sessions: int, seconds: float) -> None:
    """Talk, look at the memory on the way, and show both."""
    outcomes: Counter[str] = Counter()
    until_s = time.monotonic() + seconds
    looks: list[tuple[float, dict[str, int], float]] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(sessions):
            group.create_task(talk(system.address, until_s, outcomes))
        for look in range(1, _SAMPLES + 1):
            await asyncio.sleep(max(until_s - time.monotonic() - seconds * (1 - look / _SAMPLES), 0.0))
            tasks = await asyncio.to_thread(system.metric, ORCHESTRATOR, TASKS)
            looks.append((seconds * look / _SAMPLES, await asyncio.to_thread(system.memory_bytes), tasks))
    names = list(looks[0][1])
    rows = [[f"{at_s:.0f}", *(memory[name] >> 20 for name in names), f"{tasks:.0f}"] for at_s, memory, tasks in looks]
    print(f"{sessions} sessions for {seconds:.0f} s; turns: {dict(outcomes)}; memory in MiB:")
    print(table(["s", *names, "tasks"], rows))
    print("left behind:", {series: system.metric(name, series) for name, series in LEFT_BEHIND})


def main() -> None:
    """Start a system and talk to it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=180.0)
    asked = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        system = LiveSystem(Path(folder))
        system.up()
        try:
            asyncio.run(soak(system, sessions=asked.sessions, seconds=asked.seconds))
        finally:
            system.down()


if __name__ == "__main__":
    main()
