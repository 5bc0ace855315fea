"""What the rooms give through Triton: eight sessions at once against the same eight one after another, and memory.

    python -m benchmarks.rooms_over_triton [--rounds 3] [--quick] [--json FILE]

Both ways send the same requests to the same servers; one waits for each session before it begins the next. They run in
turn, A B A B …. Work done per second is given by the clock and by the server's processor time: on a busy machine the
second is the steadier. Every stream of the vocoder has its own tokens and seed, and the voice is one.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import machine, table, write_json
from services.local.processes import session_memory_bytes
from services.local.settings import LocalSettings
from services.local.system import LocalSystem, Server
from services.shared.audio.files import read_audio
from services.shared.codec import CODEC_SIZE, TOKEN_RATE_HZ
from services.shared.paths import SPEAKERS_FOLDER, TTS_FOLDER
from services.shared.triton.client import TritonClient
from services.shared.triton.specs import SPEAKER_ENCODER, SPEECH_TOKENIZER, STEP1_CHAT, STEP1_TTS, TOKEN_TO_WAVE
from services.shared.triton.tensors import Array, ModelSpec
from services.shared.triton.wire import SequencePlace

SESSIONS = 8
CHAT_TOKENS, SPEECH_TOKENS = 128, 170
STREAM_TOKENS, PIECE_TOKENS = 170, 10
HEARD_SAMPLES, FRAME_SAMPLES, RATE_HZ = 48_000, 960, 16_000
TIMEOUT_S = 300.0
HEADER = ("work", "per second", "one after another", f"{SESSIONS} at once", "ratio", "ratio by processor time")

Session = Callable[[TritonClient, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Work:
    """What one session asks of a pool, and how much that is."""

    name: str
    pool: str
    session: Session
    amount: float
    unit: str


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    print(machine())
    rounds = 1 if options.quick else options.rounds
    with tempfile.TemporaryDirectory() as folder:
        settings = LocalSettings(run_folder=Path(folder))
        system = LocalSystem(settings, notify=lambda step: None)
        try:
            rows = asyncio.run(measure(system, settings, rounds))
        finally:
            system.stop()
    write_json(options.json, [dict(zip(HEADER, row, strict=True)) for row in rows])


async def measure(system: LocalSystem, settings: LocalSettings, rounds: int) -> list[tuple[str, ...]]:
    """Start the servers, run every work both ways, show the table and what the servers use; returns the table."""
    started_s = time.perf_counter()
    await system.start()
    print(f"four servers started and answered after {time.perf_counter() - started_s:.1f} s")
    voice = await nano_voice(system, settings)
    works = (
        Work("speech_tokenizer", "tokenizer", listening, HEARD_SAMPLES / RATE_HZ, "s of audio"),
        Work("chat ids", "lm", generation(STEP1_CHAT, CHAT_TOKENS, ids_per_response=1), CHAT_TOKENS, "ids"),
        Work("speech ids", "tts", generation(STEP1_TTS, SPEECH_TOKENS, ids_per_response=5), SPEECH_TOKENS, "ids"),
        Work("token_to_wave", "vocoder", speaking(voice), STREAM_TOKENS / float(TOKEN_RATE_HZ), "s of audio"),
    )
    rows = [await compare(system.servers[work.pool], work, rounds) for work in works]
    print(table(HEADER, rows))
    print(memory(system))
    return rows


async def compare(server: Server, work: Work, rounds: int) -> tuple[str, ...]:
    """Run a work both ways by turns."""
    clock_s: dict[str, list[float]] = {"single": [], "together": []}
    processor_s: dict[str, list[float]] = {"single": [], "together": []}
    async with TritonClient(server.address) as client:
        for turn in range(rounds + 1):
            for way in clock_s:
                started_s, used_s = time.perf_counter(), group_processor_s(server.process.pid)
                await (one_by_one(client, work) if way == "single" else together(client, work))
                if turn:  # the first is warm-up
                    clock_s[way].append(time.perf_counter() - started_s)
                    processor_s[way].append(group_processor_s(server.process.pid) - used_s)
    single_s, together_s = (statistics.median(clock_s[way]) for way in clock_s)
    ratio_by_processor = statistics.median(processor_s["single"]) / statistics.median(processor_s["together"])
    amount = SESSIONS * work.amount
    return (
        work.name,
        work.unit,
        f"{amount / single_s:.1f}",
        f"{amount / together_s:.1f}",
        f"{single_s / together_s:.2f}",
        f"{ratio_by_processor:.2f}",
    )


async def one_by_one(client: TritonClient, work: Work) -> None:
    """Each session after the one before."""
    for seed in range(SESSIONS):
        await work.session(client, seed)


async def together(client: TritonClient, work: Work) -> None:
    """All sessions at once."""
    await asyncio.gather(*(work.session(client, seed) for seed in range(SESSIONS)))


def generation(spec: ModelSpec, tokens: int, *, ids_per_response: int) -> Session:
    """A prompt of 40 ids and a reply of so many."""

    async def session(client: TritonClient, seed: int) -> None:
        request = {
            "input_ids": np.arange(10, 50),
            "max_new_tokens": [tokens],
            "seed": [seed],
            "ids_per_response": [ids_per_response],
        }
        async for _ in client.stream(spec, request, timeout_s=TIMEOUT_S):
            pass

    return session


async def listening(client: TritonClient, seed: int) -> None:
    """An utterance in frames of 60 ms."""
    samples = np.random.default_rng(seed).normal(0, 0.1, HEARD_SAMPLES).astype(np.float32)
    name = f"{seed}-{time.monotonic_ns()}"
    for start in range(0, HEARD_SAMPLES, FRAME_SAMPLES):
        place = SequencePlace(name, start=start == 0, end=start + FRAME_SAMPLES >= HEARD_SAMPLES)
        frame = samples[start : start + FRAME_SAMPLES]
        await client.infer(SPEECH_TOKENIZER, {"pcm": frame}, timeout_s=TIMEOUT_S, sequence=place)


def speaking(voice: dict[str, Array]) -> Session:
    """A stream of tokens in pieces, as the speech model gives them."""

    async def session(client: TritonClient, seed: int) -> None:
        tokens = np.random.default_rng(seed).integers(0, CODEC_SIZE, STREAM_TOKENS)
        state: dict[str, Array] = {}
        for start in range(0, STREAM_TOKENS, PIECE_TOKENS):
            request = {
                **voice,
                **state,
                "speech_tokens": tokens[start : start + PIECE_TOKENS],
                "seed": [seed],
                "last": [start + PIECE_TOKENS >= STREAM_TOKENS],
            }
            state = await client.infer(TOKEN_TO_WAVE, request, timeout_s=TIMEOUT_S)
            del state["pcm"]

    return session


async def nano_voice(system: LocalSystem, settings: LocalSettings) -> dict[str, Array]:
    """The nano voice; its clip's tokens are random, which costs the same."""
    clip = read_audio(settings.checkpoints / TTS_FOLDER / SPEAKERS_FOLDER / "Nano_prompt.wav")
    request = {"pcm": clip.samples, "sample_rate_hz": [clip.sample_rate_hz]}
    async with TritonClient(system.servers["vocoder"].address) as client:
        features = await client.infer(SPEAKER_ENCODER, request, timeout_s=TIMEOUT_S)
    tokens = int(clip.duration_s * float(TOKEN_RATE_HZ))
    return {**features, "voice_tokens": np.random.default_rng(0).integers(0, CODEC_SIZE, tokens)}


def memory(system: LocalSystem) -> str:
    """A table of the servers' memory."""
    used_mib = {pool: session_memory_bytes(server.process.pid) / 2**20 for pool, server in system.servers.items()}
    rows = [(pool, f"{mib:.0f}") for pool, mib in used_mib.items()]
    return table(("server", "memory in MiB"), [*rows, ("together", f"{sum(used_mib.values()):.0f}")])


def group_processor_s(group: int) -> float:
    """Processor time used so far by all processes of a group. Fields 14 and 15 of /proc/<pid>/stat."""
    ticks = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == group:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
