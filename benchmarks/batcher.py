"""Tokens per second of eight concurrent requests against the same eight one after another.

Both ways run the same prompts with the same seeds through the same batcher class on one thread; the only difference is
that one has eight slots and gets all requests at once, the other has one. Stop ids are off, so that every request
gives the same number of tokens; the replies of both ways are compared. Time is that of the processor, which on a quiet
machine is the clock's.

    python -m benchmarks.batcher
"""

import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.report import machine, table
from services.shared.codec.codebooks import (
    GROUP_LINGUISTIC,
    GROUP_SEMANTIC,
    LINGUISTIC_SIZE,
    SEMANTIC_OFFSET,
    SEMANTIC_SIZE,
)
from services.shared.decoding import ContinuousBatcher
from services.shared.nn.step1 import Step1, load_step1
from services.shared.paths import CHAT_FOLDER, TTS_FOLDER
from services.shared.sampling import IdRange, SamplingParams
from services.shared.text import TextTokenizer, load_text_tokenizer

CHECKPOINTS = Path(__file__).resolve().parents[1] / "model_repository" / "checkpoints" / "nano"
REQUESTS = 8
ROUNDS = 5
QUESTION = "What is the capital of Egypt?"


@dataclass(frozen=True, slots=True)
class Work:
    """Requests for one model."""

    name: str
    model: Step1
    requests: list[tuple[list[int], SamplingParams]]


def main() -> None:
    torch.set_num_threads(1)
    print(machine())
    print(f"{REQUESTS} requests, one thread, median CPU time of {ROUNDS} rounds by turns")
    rows = []
    for work in (chat_work(), speech_work()):
        same = sum(a == b for a, b in zip(run(work, slots=1), run(work, slots=REQUESTS), strict=True))
        times_s: dict[int, list[float]] = {1: [], REQUESTS: []}
        for _ in range(ROUNDS):
            for slots, taken_s in times_s.items():
                started_s = time.process_time()
                run(work, slots=slots)
                taken_s.append(time.process_time() - started_s)
        tokens = sum(params.max_new_tokens for _, params in work.requests)
        single, batched = (tokens / statistics.median(taken_s) for taken_s in times_s.values())
        rows.append([work.name, f"{single:.0f}", f"{batched:.0f}", f"{batched / single:.2f}", f"{same} of {REQUESTS}"])
    print(table(["model", "tokens/s one after another", "tokens/s concurrent", "ratio", "identical replies"], rows))


def run(work: Work, *, slots: int) -> list[list[int]]:
    """Generate all replies with so many slots."""
    batcher = ContinuousBatcher(work.model, max_batch=slots)
    replies: dict[int, list[int]] = {batcher.submit(prompt, params): [] for prompt, params in work.requests}
    while batcher.has_work:
        for output in batcher.step():
            replies[output.request_id] += output.ids
    return list(replies.values())


def chat_work() -> Work:
    """Spoken questions of 1 to 4 s, and replies of 128 tokens, as the release samples them."""
    folder = CHECKPOINTS / CHAT_FOLDER
    tokenizer, model = load_text_tokenizer(folder), load_step1(folder)
    requests = []
    for seed in range(REQUESTS):
        speech = speech_ids(tokenizer, groups=8 + 3 * seed, seed=seed)
        prompt = [
            *tokenizer.encode("<|BOT|>human\n"),
            *speech,
            *tokenizer.encode("<|EOT|><|BOT|>assistant\n")[1:],
        ]
        requests.append((prompt, SamplingParams(max_new_tokens=128, top_p=0.9, seed=seed)))
    return Work("chat", model, requests)


def speech_work() -> Work:
    """Prompts with 3 s of a voice, and 4 s of speech each (170 tokens), with the repetition rule."""
    folder = CHECKPOINTS / TTS_FOLDER
    tokenizer, model = load_text_tokenizer(folder), load_step1(folder)
    requests = []
    for seed in range(REQUESTS):
        voice = speech_ids(tokenizer, groups=25, seed=seed)
        prompt = [
            *tokenizer.encode(f"<|BOT|>human\n{QUESTION}<|EOT|><|BOT|>assistant\n"),
            *voice,
            *tokenizer.encode(f"<|EOT|><|BOT|>human\n{QUESTION}<|EOT|><|BOT|>assistant\n")[1:],
        ]
        params = SamplingParams(
            max_new_tokens=170,
            seed=seed,
            repetition_aware=True,
            allowed_ids=IdRange(tokenizer.audio_offset, tokenizer.vocab_size),
        )
        requests.append((prompt, params))
    return Work("speech", model, requests)


def speech_ids(tokenizer: TextTokenizer, *, groups: int, seed: int) -> list[int]:
    """Random speech in the 2:3 pattern; generation costs the same whatever it says."""
    draw = random.Random(seed)
    values: list[int] = []
    for _ in range(groups):
        values += (draw.randrange(LINGUISTIC_SIZE) for _ in range(GROUP_LINGUISTIC))
        values += (SEMANTIC_OFFSET + draw.randrange(SEMANTIC_SIZE) for _ in range(GROUP_SEMANTIC))
    return [tokenizer.audio_offset + value for value in values]


if __name__ == "__main__":
    main()
