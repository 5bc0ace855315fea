"""The laws of the rooms of a running local system, by the processor time of their servers.

Processor time and not the clock: servers share the machine's cores, and how they share them is for the simulation to
find out. Each law is drawn through a few kinds of work, each made several times and taken by its median.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import numpy as np

from benchmarks.capacity.laws import PassLaw, StepLaw
from benchmarks.processor import family_of, processor_s
from benchmarks.rooms_over_triton import TIMEOUT_S
from services.shared.codec import CODEC_SIZE
from services.shared.triton.client import TritonClient
from services.shared.triton.specs import SPEECH_TOKENIZER, TOKEN_TO_WAVE
from services.shared.triton.tensors import Array, ModelSpec
from services.shared.triton.wire import SequencePlace

RATE_HZ: Final = 16_000
TOGETHER: Final = 4
SHORT_PROMPT, LONG_PROMPT = 40, 340
FEW, MANY = 16, 96
FIRST, SMALL, LARGE = 25, 15, 60
"""Speech tokens of a stream's first request and of later ones."""
HELD_BACK: Final = 12
"""Of the first request's tokens: their audio comes with the requests behind it."""

Job = Callable[[], Awaitable[None]]


class Meter:
    """Processor seconds that a server needs for a job."""

    def __init__(self, leader: int, repeats: int) -> None:
        self._processes = family_of([leader])
        self._repeats = repeats

    async def seconds(self, job: Job, *, at_once: int = 1) -> float:
        """Of a job that is made so many times at once, together; the median of the repeats after a first one."""
        used_s: list[float] = []
        for _ in range(self._repeats + 1):
            before_s = processor_s(self._processes)
            await asyncio.gather(*(job() for _ in range(at_once)))
            used_s.append(processor_s(self._processes) - before_s)
        return statistics.median(used_s[1:])


async def step_law(client: TritonClient, spec: ModelSpec, meter: Meter, *, ids_per_response: int) -> StepLaw:
    """Of a language model."""

    def job(prompt: int, tokens: int) -> Job:
        request: Mapping[str, object] = {
            "input_ids": np.arange(10, 10 + prompt),
            "max_new_tokens": [tokens],
            "seed": [1],
            "ids_per_response": [ids_per_response],
        }

        async def run() -> None:
            async for _ in client.stream(spec, request, timeout_s=TIMEOUT_S):
                pass

        return run

    few_s = await meter.seconds(job(SHORT_PROMPT, FEW))
    many_s = await meter.seconds(job(SHORT_PROMPT, MANY))
    long_s = await meter.seconds(job(LONG_PROMPT, FEW))
    together_s = await meter.seconds(job(SHORT_PROMPT, MANY), at_once=TOGETHER)
    alone_step_s = (many_s - few_s) / (MANY - FEW)
    prompt_token_s = max(0.0, (long_s - few_s) / (LONG_PROMPT - SHORT_PROMPT))
    prompt_s = max(0.0, few_s - FEW * alone_step_s)
    shared_step_s = (together_s - TOGETHER * prompt_s) / MANY
    sequence_s = max(0.0, (shared_step_s - alone_step_s) / (TOGETHER - 1))
    return StepLaw(
        fixed_s=max(0.0, alone_step_s - sequence_s),
        sequence_s=sequence_s,
        prompt_s=max(0.0, prompt_s - SHORT_PROMPT * prompt_token_s),
        prompt_token_s=prompt_token_s,
    )


async def tokenizer_law(client: TritonClient, meter: Meter) -> PassLaw:
    """Of pieces of an utterance; a unit is a second."""

    def job(piece_samples: int, pieces: int) -> Job:
        async def run() -> None:
            samples = np.random.default_rng(0).normal(0, 0.1, piece_samples).astype(np.float32)
            name = f"calibration-{time.monotonic_ns()}"
            for piece in range(pieces):
                place = SequencePlace(name, start=piece == 0, end=piece == pieces - 1)
                await client.infer(SPEECH_TOKENIZER, {"pcm": samples}, timeout_s=TIMEOUT_S, sequence=place)

        return run

    pieces = 48
    short_s = await meter.seconds(job(960, pieces)) / pieces
    long_s = await meter.seconds(job(3840, pieces)) / pieces
    unit_s = max(0.0, (long_s - short_s) / ((3840 - 960) / RATE_HZ))
    return PassLaw(fixed_s=0.0, request_s=max(0.0, short_s - 960 / RATE_HZ * unit_s), unit_s=unit_s)


async def vocoder_law(client: TritonClient, voice: Mapping[str, Array], meter: Meter) -> PassLaw:
    """Of the requests of a stream; a unit is a speech token."""

    def job(*pieces: int) -> Job:
        async def run() -> None:
            chance = np.random.default_rng(0)
            state: dict[str, Array] = {}
            for number, tokens in enumerate(pieces, 1):
                request = {
                    **voice,
                    **state,
                    "speech_tokens": chance.integers(0, CODEC_SIZE, tokens),
                    "seed": [1],
                    "last": [number == len(pieces)],
                }
                state = await client.infer(TOKEN_TO_WAVE, request, timeout_s=TIMEOUT_S)
                del state["pcm"]

        return run

    small_s = await meter.seconds(job(FIRST, *4 * [SMALL]))
    more_s = await meter.seconds(job(FIRST, *8 * [SMALL]))
    large_s = await meter.seconds(job(FIRST, *4 * [LARGE]))
    together_s = await meter.seconds(job(FIRST, *4 * [LARGE]), at_once=TOGETHER) / TOGETHER
    unit_s = max(0.0, (large_s - small_s) / (4 * (LARGE - SMALL)))
    later_s = max(0.0, (more_s - small_s) / 4 - SMALL * unit_s)
    fixed_s = max(0.0, (large_s - together_s) / 5 / (1 - 1 / TOGETHER))
    first_s = small_s - 4 * later_s - (4 * SMALL + HELD_BACK) * unit_s
    return PassLaw(
        fixed_s=min(fixed_s, later_s),
        request_s=max(0.0, later_s - fixed_s),
        unit_s=unit_s,
        first_s=first_s - FIRST * unit_s - later_s,
    )
