"""The simulation held against the real local system: the same conversations in both, one to four at once.

    laws of the rooms ──► simulation ──► predicted ┐
    turns that were seen ──►┘                      ├─ side by side
    real system, 1, 2, 4 callers ──► measured ─────┘

Callers speak recorded questions in real time, end their turns themselves, and hear replies as soon as they are made, so
that the rooms and their queues are what is compared.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.capacity.calibration import Meter, step_law, tokenizer_law, vocoder_law
from benchmarks.capacity.laws import Deployment, Pool, write_deployment
from benchmarks.capacity.simulation import Seen, simulate
from benchmarks.capacity.workload import Habits, Turn, one_of
from benchmarks.first_audio import read_questions
from benchmarks.processor import family_of, processor_s
from benchmarks.report import percentile, table
from benchmarks.rooms_over_triton import nano_voice
from benchmarks.wire import HEARD_RATE_HZ, TURN_TIMEOUT_S, Ear, Manner, session
from services.local.record import ORCHESTRATOR, RunRecord, read_record
from services.local.settings import LocalSettings
from services.local.system import LocalSystem
from services.shared.triton.client import TritonClient
from services.shared.triton.specs import STEP1_CHAT, STEP1_TTS
from services.shared.triton.tensors import Array
from stepaudio.conversation import Conversation
from stepaudio.formats import Samples
from stepaudio.sources import paced, silence

CALLERS: Final = (1, 2, 4)
PAUSE_S: Final = 1.0
CORES: Final = 2
SIMULATED_S: Final = 600.0
AROUND_VOICE_TOKENS: Final = 40
"""Of a prompt of the speech model: the system prompt's and the text's, beside the voice's clip."""


@dataclass(slots=True)
class Measured:
    """What real callers saw.

    Attributes:
        first_audio_s: from the end of speech.
        reply_s: from there to the end of the turn.
        turns: their shapes.
    """

    first_audio_s: list[float] = field(default_factory=list)
    reply_s: list[float] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)

    def turns_a_minute(self, callers: int) -> float:
        """Of all callers together; opening a conversation for each turn is left out."""
        turn_s = _mean([turn.pause_s + turn.speech_s for turn in self.turns]) + _mean(self.reply_s)
        return 60 * callers / turn_s


def check(*, quick: bool, laws_file: Path | None) -> str:
    """Measure, predict, and lay them side by side."""
    with tempfile.TemporaryDirectory() as folder:
        settings = LocalSettings(run_folder=Path(folder))
        system = LocalSystem(settings, notify=lambda step: None, rooms_only=False)
        try:
            deployment, voice_tokens, measured = asyncio.run(_measure(system, settings, turns=4 if quick else 16))
        finally:
            system.stop()
    if laws_file is not None:
        write_deployment(deployment, laws_file)
    prompt_tokens = voice_tokens + AROUND_VOICE_TOKENS
    habits = Habits(endpointing_s=0.0, prepare_s=0.0, plays=False, clause_prompt_tokens=prompt_tokens)
    predicted = {
        callers: simulate(deployment, callers, one_of(found.turns), habits=habits, seconds=SIMULATED_S, warm_up_s=10.0)
        for callers, found in measured.items()
    }
    return "\n".join([_laws(deployment), "", _comparison(predicted, measured)])


async def _measure(
    system: LocalSystem, settings: LocalSettings, *, turns: int
) -> tuple[Deployment, int, dict[int, Measured]]:
    """Laws first, then callers; and the tokens of the voice's clip."""
    await system.start()
    record = read_record(settings.run_folder)
    assert record is not None  # it was written by the start
    speeches = read_questions(8)
    await _speak(record, speeches, callers=2, turns=1)  # everything has been used once
    voice = await nano_voice(system, settings)
    deployment = await _deployment(system, voice, record)
    measured = {callers: await _speak(record, speeches, callers=callers, turns=turns) for callers in CALLERS}
    return deployment, len(voice["voice_tokens"]), measured


async def _deployment(system: LocalSystem, voice: Mapping[str, Array], record: RunRecord) -> Deployment:
    """The local system with its measured laws."""
    pids = {server.name: server.pid for server in record.servers}
    async with AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(TritonClient(system.servers[name].address))
            for name in ("tokenizer", "lm", "tts", "vocoder")
        }
        meters = {name: Meter(pids[name], repeats=5) for name in clients}
        tokenizer = await tokenizer_law(clients["tokenizer"], meters["tokenizer"])
        lm = await step_law(clients["lm"], STEP1_CHAT, meters["lm"], ids_per_response=1)
        tts = await step_law(clients["tts"], STEP1_TTS, meters["tts"], ids_per_response=5)
        vocoder = await vocoder_law(clients["vocoder"], voice, meters["vocoder"])
    return Deployment(
        "local",
        "measured on this machine",
        tokenizer=Pool(tokenizer, 1, 0, 8),
        lm=Pool(lm, 1, 0, 8),
        tts=Pool(tts, 1, 0, 8),
        vocoder=Pool(vocoder, 1, 0, 8),
        frame_s=await _frame_s(record),
        cores=CORES,
    )


async def _frame_s(record: RunRecord, callers: int = 2, seconds: float = 5.0) -> float:
    """Processor time of orchestrator and callers together for 20 ms of a conversation in which nobody speaks."""
    orchestrator = next(server for server in record.servers if server.name == ORCHESTRATOR)
    processes = family_of([orchestrator.pid])

    async def listen() -> None:
        async with Conversation(orchestrator.address, session(Manner()), player=Ear()) as conversation:
            async for piece in paced(silence(seconds, HEARD_RATE_HZ), HEARD_RATE_HZ):
                await conversation.send_audio(piece)

    used_s = processor_s(processes) + time.process_time()
    await asyncio.gather(*(listen() for _ in range(callers)))
    return (processor_s(processes) + time.process_time() - used_s) / (callers * seconds / 0.02)


async def _speak(record: RunRecord, speeches: Sequence[Samples], *, callers: int, turns: int) -> Measured:
    """So many callers at once, each with so many turns."""
    address = next(server.address for server in record.servers if server.name == ORCHESTRATOR)
    measured = Measured()
    async with asyncio.TaskGroup() as group:
        for caller in range(callers):
            group.create_task(_call(address, speeches, measured, random.Random(caller), turns))
    return measured


async def _call(address: str, speeches: Sequence[Samples], into: Measured, chance: random.Random, turns: int) -> None:
    for _ in range(turns):
        pause_s = chance.expovariate(1 / PAUSE_S)
        await asyncio.sleep(pause_s)
        speech = chance.choice(speeches)
        async with (
            asyncio.timeout(TURN_TIMEOUT_S),
            Conversation(address, session(Manner()), player=Ear()) as conversation,
        ):
            async for piece in paced(speech, HEARD_RATE_HZ):
                await conversation.send_audio(piece)
            spoken_s = time.perf_counter()
            await conversation.end_turn()
            first_s = 0.0
            async for event in conversation:
                kind = event.WhichOneof("event")
                if kind == "reply_audio" and not first_s:
                    first_s = time.perf_counter()
                elif kind == "turn_ended":
                    metrics = event.turn_ended.record.metrics
                    into.reply_s.append(time.perf_counter() - spoken_s)
                    break
        into.first_audio_s.append(first_s - spoken_s)
        clause = (metrics.text_tokens, metrics.speech_tokens)
        into.turns.append(Turn(pause_s, len(speech) / HEARD_RATE_HZ, metrics.prompt_tokens, (clause,)))


def _laws(deployment: Deployment) -> str:
    rows = []
    for name in ("tokenizer", "lm", "tts", "vocoder"):
        law = deployment.pool(name).law
        figures = ", ".join(f"{part.removesuffix('_s')} {1000 * getattr(law, part):.3f}" for part in law.__slots__)
        rows.append((name, figures))
    rows.append(("orchestrator and callers, 20 ms", f"{1000 * deployment.frame_s:.3f}"))
    return table(("measured law", "processor ms"), rows)


def _comparison(predicted: dict[int, Seen], measured: dict[int, Measured]) -> str:
    rows = []
    for callers, found in measured.items():
        seen = predicted[callers]
        for name, ours, theirs in (
            ("first audio, median s", percentile(seen.first_audio_s, 50), percentile(found.first_audio_s, 50)),
            ("first audio, mean s", _mean(seen.first_audio_s), _mean(found.first_audio_s)),
            ("turns a minute", 60 * seen.turns / seen.measured_s, found.turns_a_minute(callers)),
        ):
            rows.append((callers, name, f"{ours:.3f}", f"{theirs:.3f}", f"{100 * (ours / theirs - 1):+.0f} %"))
    return table(("callers", "figure", "predicted", "measured", "difference"), rows)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
