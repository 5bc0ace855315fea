"""One process with one framework in it, and the paced callers that talk to it: run by `python -m benchmarks.peers`.

    python -m benchmarks.peers.driver KIND SCENARIO CLIP SESSIONS SECONDS

frames   silence all the time while the agent speaks one long text: processor time for 20 ms in and 20 ms out
deaf     the same without a network of voice activity: nothing is ever speech
turns    the clip, then silence in which the turn ends and a short reply is heard, again and again: what a turn took

Everyone brings a release of Silero of its own, and they differ by a frame in where they hear the clip end. So a turn is
measured from the end of speech as the framework's own network has it.

The callers live in the framework's process and hand it bare frames, so there is no transport in it; kind `alone` is the
callers without a framework. Processor time is that of the whole process, with all threads, living and dead.
"""

import asyncio
import importlib
import json
import resource
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Protocol, cast

from benchmarks.peers.scene import (
    FRAME_S,
    INPUT_FRAME_BYTES,
    INPUT_RATE_HZ,
    LONG_TEXT,
    PIECE_MS,
    REPLY_FRAME_BYTES,
    VAD_THRESHOLD,
    WINDOW_BYTES,
    WORDS_KNOWN_MS,
    Journal,
    Talker,
    Turn,
)

SETTLE_S: Final = 2.0
FIRST_AUDIO_S: Final = 30.0
"""Longest wait for it: what a framework compiles or loads at its first audio is not measured."""
REST_S: Final = 2.6
"""From the end of the clip to the next turn: the silence, the reply and a second of peace."""
QUICK_S: Final = 0.02
STILL: Final = bytes(INPUT_FRAME_BYTES)
STILL_AFTER_BYTES: Final = 2 * INPUT_RATE_HZ


class Framework(Protocol):
    """What a module of a framework has."""

    async def judge(self, audio: bytes) -> Sequence[float]:
        """How likely each whole 32 ms of the audio are speech, by the framework's own network."""

    def conversations(
        self, journals: Sequence[Journal], *, deaf: bool
    ) -> AbstractAsyncContextManager[Sequence[Talker]]:
        """Open as many conversations as there are journals."""


async def pace(talker: Talker, journal: Journal, place: float, frames: Sequence[bytes], marks: tuple[int, int]) -> None:
    """Talk for ever: the frames again and again; the marks are the frame that ends speech and that of the words."""
    loop = asyncio.get_running_loop()
    begun_s, number = loop.time() + place, 0
    while True:
        await asyncio.sleep(max(0.0, begun_s + number * FRAME_S - loop.time()))
        index = number % len(frames)
        await talker.push(frames[index])
        journal.pushed += 1
        if index == marks[0]:
            journal.turns.append(Turn(time.perf_counter()))
        elif index == marks[1]:
            await talker.words_known()
        number += 1


async def run(kind: str, scenario: str, clip: bytes, *, sessions: int, seconds: float) -> dict[str, Any]:
    """Talk to a framework; returns what is to be told, as JSON."""
    framework = cast(Framework, importlib.import_module(f"benchmarks.peers.{kind}"))
    is_steady = scenario != "turns"
    speech_end = 0 if is_steady else speech_end_bytes(await framework.judge(clip + bytes(STILL_AFTER_BYTES)))
    journals = [Journal(PIECE_MS / 1000 if is_steady else QUICK_S) for _ in range(sessions)]
    frames, marks = ([STILL], (-1, -1)) if is_steady else turn_frames(clip, speech_end)
    spread_s = len(frames) * FRAME_S / sessions
    async with framework.conversations(journals, deaf=scenario == "deaf") as talkers, asyncio.TaskGroup() as group:
        callers = [
            group.create_task(pace(talker, journal, place * spread_s, frames, marks))
            for place, (talker, journal) in enumerate(zip(talkers, journals, strict=True))
        ]
        if is_steady:
            for talker in talkers:
                await talker.say(LONG_TEXT)
            async with asyncio.timeout(FIRST_AUDIO_S):
                while not all(journal.reply_bytes for journal in journals):
                    await asyncio.sleep(FRAME_S)
            await asyncio.sleep(SETTLE_S)
        before = counted(journals)
        await asyncio.sleep(seconds)
        used_s, pushed, heard = (now - then for now, then in zip(counted(journals), before, strict=True))
        told = {
            "used_s": used_s,
            "frames_in": pushed,
            "frames_out": heard / REPLY_FRAME_BYTES,
            "frames_due": sessions * seconds / FRAME_S,
            "turns": [[asdict(turn) for turn in journal.turns] for journal in journals],
            "speech_end_ms": speech_end * 1000 // (2 * INPUT_RATE_HZ),
            "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        for caller in callers:
            caller.cancel()
    return told


def counted(journals: Sequence[Journal]) -> tuple[float, int, int]:
    """Processor time of the process in seconds, frames pushed, and bytes of audio that came out."""
    pushed, heard = (
        sum(values) for values in zip(*((each.pushed, each.reply_bytes) for each in journals), strict=True)
    )
    return time.process_time(), pushed, heard


def speech_end_bytes(probabilities: Sequence[float]) -> int:
    """Where the last frame ends that is speech."""
    return WINDOW_BYTES * (1 + max(place for place, each in enumerate(probabilities) if each >= VAD_THRESHOLD))


def turn_frames(clip: bytes, speech_end: int) -> tuple[list[bytes], tuple[int, int]]:
    """A turn's frames, which of them ends the speech, and at which the words are known."""
    silent = round(REST_S / FRAME_S) * INPUT_FRAME_BYTES
    audio = clip + bytes(-len(clip) % INPUT_FRAME_BYTES + silent)
    frames = [audio[begin : begin + INPUT_FRAME_BYTES] for begin in range(0, len(audio), INPUT_FRAME_BYTES)]
    last = (speech_end - 1) // INPUT_FRAME_BYTES
    return frames, (last, last + round(WORDS_KNOWN_MS / 1000 / FRAME_S))


def main() -> None:
    """See the module."""
    kind, scenario, clip, sessions, seconds = sys.argv[1:]
    told = run(kind, scenario, Path(clip).read_bytes(), sessions=int(sessions), seconds=float(seconds))
    print(json.dumps(asyncio.run(told)), flush=True)


if __name__ == "__main__":
    main()
