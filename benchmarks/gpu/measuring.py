"""Measurements of rooms, whatever engine they run on. Wall time: a GPU is for one process at a time here.

first chunk   S streams bring their first tokens at the same moment; the room makes them in passes of at most 8, as
              Triton hands them over. A stream's time is from that moment to the end of the pass that made its chunk
RTF           one stream, tokens in pushes of five, to its end: seconds of work for a second of audio
tokens/s      replies of one length, all at once, from the first to the last
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from benchmarks.fullsize.usage import peak_mib
from benchmarks.report import percentile
from services.shared.decoding import ContinuousBatcher, TokenStreams
from services.shared.nn.step1 import Step1
from services.shared.sampling import SamplingParams
from services.tokenizer import LinguisticEncoder
from services.vocoder import Vocoder, VoiceFeatures
from services.vocoder.streaming import Push

PASS_STREAMS: Final = 8
PUSH_TOKENS: Final = 5
FIRST_TOKENS: Final = 35
"""Tokens that a first chunk needs, with the flow's lookahead, in whole groups."""
_PUSH_SAMPLES: Final = 3_840
_RATE_HZ: Final = 16_000

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds: median and 95th percentile."""

    p50_ms: float
    p95_ms: float


def spread(times_s: Sequence[float]) -> Spread:
    """Of times in seconds."""
    return Spread(1000 * statistics.median(times_s), 1000 * percentile(times_s, 95))


def synchronized(device: str) -> Clock:
    """A clock that waits for the device's work first."""
    if not device.startswith("cuda"):
        return time.perf_counter

    def now_s() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return now_s


def clip(prompt_s: float) -> VoiceFeatures:
    """A voice of so many seconds, of noise."""
    random = np.random.default_rng(0)
    frames, tokens = round(86.13 * prompt_s), round(41.6667 * prompt_s)
    mel = random.standard_normal((frames, 80)).astype(np.float32) - 5
    return VoiceFeatures(random.integers(0, 5120, tokens), mel, random.standard_normal(192).astype(np.float32))


def speech_tokens(count: int, seed: int = 0) -> Any:  # an array of ids
    """Ids of speech, at random."""
    return np.random.default_rng(seed).integers(0, 5120, count)


def first_chunks(vocoder: Vocoder, voice: VoiceFeatures, *, streams: int, rounds: int, clock: Clock) -> Spread:
    """Times to the first chunk of streams that begin together."""
    times_s: list[float] = []
    for round_number in range(rounds + 1):
        pushes = [
            Push(speech_tokens(FIRST_TOKENS, seed), voice, vocoder.initial_state(seed), final=False)
            for seed in range(streams)
        ]
        begun_s = clock()
        for place in range(0, streams, PASS_STREAMS):
            made = vocoder.chunks(pushes[place : place + PASS_STREAMS])
            if not all(not isinstance(chunk, Exception) and len(chunk[0]) for chunk in made):
                raise RuntimeError("a stream has no first chunk")
            taken_s = clock() - begun_s
            if round_number:  # the first round warms up
                times_s += [taken_s] * len(made)
    return spread(times_s)


def spoken(vocoder: Vocoder, voice: VoiceFeatures, tokens: int) -> torch.Tensor:
    """A stream to its end, [N]."""
    ids, state, chunks = speech_tokens(tokens), vocoder.initial_state(0), []
    for place in range(0, tokens, PUSH_TOKENS):
        final = place + PUSH_TOKENS >= tokens
        chunk, state = vocoder.chunk(ids[place : place + PUSH_TOKENS], voice, state, final=final)
        chunks.append(torch.from_numpy(chunk))
    return torch.cat(chunks)


def heard(encoder: LinguisticEncoder, seconds: float) -> torch.Tensor:
    """Rows of noise in chunks of 240 ms, [T, D]."""
    audio = np.random.default_rng(0).standard_normal(round(seconds * _RATE_HZ)).astype(np.float32) * np.float32(0.1)
    rows, state = [], encoder.initial_state()
    for place in range(0, len(audio), _PUSH_SAMPLES):
        final = place + _PUSH_SAMPLES >= len(audio)
        new, state = encoder.encode(audio[place : place + _PUSH_SAMPLES], state, final=final)
        rows.append(new)
    return torch.cat(rows)


def timed_s(job: Callable[[], object], clock: Clock, *, rounds: int) -> float:
    """Median seconds of a job, after one that warms up."""
    job()
    times_s = []
    for _ in range(rounds):
        begun_s = clock()
        job()
        times_s.append(clock() - begun_s)
    return statistics.median(times_s)


def torch_tokens_per_s(model: Step1, *, batch: int, prompt: int, new: int, clock: Clock) -> float:
    """Tokens a second of the torch batcher, all replies together."""

    def generate() -> None:
        batcher = ContinuousBatcher(model, max_batch=batch)
        for row in range(batch):
            batcher.submit([1 + row] * prompt, SamplingParams(max_new_tokens=new, temperature=0.0))
        while batcher.has_work:
            for output in batcher.step():
                if output.error is not None:
                    raise output.error

    return batch * new / timed_s(generate, clock, rounds=1)


def engine_tokens_per_s(streams: TokenStreams, *, batch: int, prompt: int, new: int, clock: Clock) -> float:
    """The same of an engine behind the streams' port, as vLLM is."""

    async def one(row: int) -> None:
        wanted = SamplingParams(max_new_tokens=new, temperature=0.0)
        async for output in streams.stream([1 + row] * prompt, wanted, is_gone=lambda: False):
            if output.error is not None:
                raise output.error

    async def all_rows() -> None:
        await asyncio.gather(*(one(row) for row in range(batch)))

    return batch * new / timed_s(lambda: asyncio.run(all_rows()), clock, rounds=1)


def memory_mib(device: str) -> int:
    """What is taken of the device by anyone, or the most that this process had on a CPU."""
    if not device.startswith("cuda"):
        return peak_mib()
    free, total = torch.cuda.mem_get_info(device)
    return int(total - free) >> 20


class EnergyMeter:
    """The device's own counter of energy, where the driver has one and `pynvml` (nvidia-ml-py) is installed."""

    def __init__(self, device: str) -> None:
        self._read: Callable[[], int] | None = None
        if not device.startswith("cuda"):
            return
        try:
            import pynvml

            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(int(device.partition(":")[2] or 0))
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except Exception:  # noqa: BLE001 - absent, too old or forbidden: the figure is left out
            return
        self._read = lambda: int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))

    def joules(self, job: Callable[[], object]) -> float | None:
        """What a job takes; None where nothing can be read."""
        if self._read is None:
            job()
            return None
        before = self._read()
        job()
        return (self._read() - before) / 1000


def device_name(device: str) -> str:
    """The device in the driver's words."""
    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "cpu")
