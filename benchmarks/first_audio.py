"""How long the caller waits: from the end of speech to the first sound, streamed and one room after another.

    python -m benchmarks.first_audio [--questions N] [--quick] [--json FILE]

                     speech          silence
    streamed         ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒|─────|♪ ♪ ♪ ♪ ♪      client, gRPC, Ray Serve, Redis, four Triton servers
    one by one       ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒|tokenizer──|lm─────|tts──────────|vocoder──────|♪ ♪ ♪ ♪ ♪
                                     the same servers, each room run to its end before the next one begins

Questions are asked both ways by turns, A B A B …, with the same seeds, so that the same reply is spoken. The caller
ends its turn itself, so that what is compared is the rooms and what stands between them; the last table has the whole
silence of a caller whose end of turn is found by silence. The speech is sent in real time, as a microphone gives it.

Seconds are wall time. Beside them stands the processor time that all of the system's processes used meanwhile, which
other work on the machine does not lengthen.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.processor import family_of, processor_s
from benchmarks.report import machine, percentile, table
from protos.gen.stepaudio.v1 import audio_pb2, conversation_pb2, metrics_pb2, options_pb2, turn_taking_pb2
from services.local.record import ORCHESTRATOR, RunRecord, read_record
from services.local.settings import LocalSettings
from services.local.system import LocalSystem
from services.orchestrator.adapters.triton.checkpoint import Checkpoint, read_checkpoint
from services.orchestrator.adapters.triton.connect import RoomAddresses, connect_rooms
from services.orchestrator.conversation.options import GenerationOptions
from services.orchestrator.conversation.record import Role
from services.orchestrator.ports.rooms import ChatMessage, PreparedVoice, Rooms, SpeechTokens, Work
from services.shared.errors import GenerationError
from services.shared.prompt.speech.clauses import split_clauses
from services.shared.triton.specs import POOLS
from stepaudio.conversation import Conversation
from stepaudio.formats import Samples
from stepaudio.sources import paced, read_speech, silence

QUESTIONS: Final = Path(__file__).parent / "data" / "nano_questions"
HEARD_RATE_HZ, REPLY_RATE_HZ = 16_000, 24_000
SEED, ATTEMPTS = 7, 5
QUICK_QUESTIONS: Final = 8
TURN_TIMEOUT_S: Final = 60.0
MANUAL, SILENCE = turn_taking_pb2.ENDPOINTING_MODE_MANUAL, turn_taking_pb2.ENDPOINTING_MODE_SILENCE
PARTS: Final = ("endpointing", "tokenizer", "lm", "tts", "vocoder", "orchestrator")


@dataclass(frozen=True, slots=True)
class Wait:
    """One question answered.

    Attributes:
        text: of the reply.
        wall_s: from the end of speech to the first reply audio.
        processor_s: of all processes meanwhile.
        parts_s: where that time went, by part.
    """

    text: str
    wall_s: float
    processor_s: float
    parts_s: dict[str, float]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the system is: its API, its rooms, and the processes that lead it."""

    api: str
    rooms: RoomAddresses
    leaders: tuple[int, ...]

    @classmethod
    def of(cls, record: RunRecord) -> "Place":
        """From the record of a run."""
        servers = {server.name: server for server in record.servers}
        rooms = RoomAddresses(**{pool: servers[pool].address for pool in POOLS})
        return cls(servers[ORCHESTRATOR].address, rooms, tuple(server.pid for server in record.servers))


@dataclass(slots=True)
class Marks:
    """What was noted while one question was asked; times in seconds."""

    spoken_s: float = 0.0
    spoken_used_s: float = 0.0
    first_s: float = 0.0
    first_used_s: float = 0.0
    text: str = ""


class Ear:
    """A player that has heard everything as soon as it is written."""

    sample_rate_hz = REPLY_RATE_HZ

    def write(self, samples: Samples) -> None:
        """See `Player`."""

    def clear(self) -> None:
        """See `Player`."""

    def pending_samples(self) -> int:
        """See `Player`."""
        return 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=25)
    parser.add_argument("--quick", action="store_true", help=f"only {QUICK_QUESTIONS} questions")
    parser.add_argument("--json", type=Path, help="also write every question's figures to this file")
    arguments = parser.parse_args()
    print(machine())
    speeches = read_questions(QUICK_QUESTIONS if arguments.quick else arguments.questions)
    with tempfile.TemporaryDirectory() as folder:
        settings = LocalSettings(run_folder=Path(folder))
        system = LocalSystem(settings, notify=lambda step: None, rooms_only=False)
        try:
            results = asyncio.run(start_and_measure(system, settings, speeches))
        finally:
            system.stop()
    print(report(results))
    if arguments.json:
        found = {way: [asdict(wait) for wait in waits] for way, waits in results.items()}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


def read_questions(count: int) -> list[Samples]:
    """The first spoken questions, at the rate that is heard."""
    lines = (QUESTIONS / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return [read_speech(QUESTIONS / json.loads(line)["file"], HEARD_RATE_HZ) for line in lines[:count]]


async def start_and_measure(
    system: LocalSystem, settings: LocalSettings, speeches: Sequence[Samples]
) -> dict[str, list[Wait]]:
    """Start everything and ask every question in every way."""
    await system.start()
    record = read_record(settings.run_folder)
    assert record is not None  # it was written by the start
    return await measure(Place.of(record), read_checkpoint(settings.checkpoints), speeches)


async def measure(place: Place, checkpoint: Checkpoint, speeches: Sequence[Samples]) -> dict[str, list[Wait]]:
    """Ask every question in every way; the first one is asked once before, uncounted.

    Returns:
        "streamed", "one by one" and "silence": one entry a question.
    """
    waits: dict[str, list[Wait]] = {"streamed": [], "one by one": [], "silence": []}
    async with connect_rooms(place.rooms, checkpoint) as connected:
        voice = await connected.rooms.built_in.get(connected.rooms.built_in.default_name)
        for counted, speech in ((False, speeches[0]), *((True, speech) for speech in speeches)):
            answers = {
                "streamed": await ask(place, speech, MANUAL),
                "one by one": await ask_one_by_one(place, connected.rooms, checkpoint, voice, speech),
                "silence": await ask(place, speech, SILENCE),
            }
            if counted:
                for way, wait in answers.items():
                    waits[way].append(wait)
    return waits


async def ask(place: Place, speech: Samples, mode: turn_taking_pb2.EndpointingMode.ValueType) -> Wait:
    """Speak to the whole system until the turn has ended."""
    processes = family_of(place.leaders)
    marks = Marks()
    breakdown = metrics_pb2.FirstAudioBreakdown()
    async with (
        asyncio.timeout(TURN_TIMEOUT_S),
        Conversation(place.api, session(mode), player=Ear()) as conversation,
        asyncio.TaskGroup() as group,
    ):
        speaking = group.create_task(speak(conversation, speech, processes, marks, ends_turn=mode == MANUAL))
        async for event in conversation:
            match event.WhichOneof("event"):
                case "reply_text":
                    marks.text += event.reply_text.text
                case "reply_audio" if not marks.first_s:
                    marks.first_s, marks.first_used_s = time.perf_counter(), processor_s(processes)
                case "turn_ended":
                    breakdown = event.turn_ended.record.metrics.breakdown
                    break
        speaking.cancel()
    parts_s = {part: getattr(breakdown, f"{part}_ms") / 1000 for part in PARTS}
    used_s = marks.first_used_s - marks.spoken_used_s
    return Wait(marks.text, marks.first_s - marks.spoken_s, used_s, parts_s)


def session(mode: turn_taking_pb2.EndpointingMode.ValueType) -> conversation_pb2.SessionStart:
    """A session whose replies are always the same."""
    options = options_pb2.SessionOptions(
        turn_taking=turn_taking_pb2.TurnTakingOptions(mode=mode),
        voice=options_pb2.VoiceOptions(seed=SEED),
        generation=options_pb2.GenerationOptions(seed=SEED),
    )
    reply_audio = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM16, sample_rate_hz=REPLY_RATE_HZ)
    return conversation_pb2.SessionStart(options=options, reply_audio=reply_audio)


async def speak(
    conversation: Conversation, speech: Samples, processes: set[int], marks: Marks, *, ends_turn: bool
) -> None:
    """Say it in real time; then end the turn, or be silent until cancelled."""
    async for piece in paced(speech, HEARD_RATE_HZ):
        await conversation.send_audio(piece)
    marks.spoken_s, marks.spoken_used_s = time.perf_counter(), processor_s(processes)
    if ends_turn:
        await conversation.end_turn()
        return
    async for piece in paced(silence(TURN_TIMEOUT_S, HEARD_RATE_HZ), HEARD_RATE_HZ):
        await conversation.send_audio(piece)


async def ask_one_by_one(
    place: Place, rooms: Rooms, checkpoint: Checkpoint, voice: PreparedVoice, speech: Samples
) -> Wait:
    """Ask the same rooms, each to its end."""
    processes = family_of(place.leaders)
    work = Work(session="one by one", turn=1, epoch=1)
    started_s, used_s = time.perf_counter(), processor_s(processes)
    utterance = rooms.tokenizer.listen(work)
    await utterance.push(speech)
    tokens = await utterance.finish()
    heard_s = time.perf_counter()
    text = await reply(rooms, checkpoint, tokens, work)
    thought_s = time.perf_counter()
    clauses = [await spoken(rooms, clause, voice, work) for clause in split_clauses(text)]
    said_s = time.perf_counter()
    for clause in clauses:
        await rooms.vocoder.open(voice, seed=SEED, work=work).push(clause, last=True)
    ended_s = time.perf_counter()
    parts_s = {
        "tokenizer": heard_s - started_s,
        "lm": thought_s - heard_s,
        "tts": said_s - thought_s,
        "vocoder": ended_s - said_s,
    }
    return Wait(text, ended_s - started_s, processor_s(processes) - used_s, parts_s)


async def reply(rooms: Rooms, checkpoint: Checkpoint, tokens: tuple[int, ...], work: Work) -> str:
    """The whole text, sampled as the orchestrator does it where the caller chooses nothing but the seed."""
    sampling = checkpoint.chat_params
    options = GenerationOptions(temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k, seed=SEED)
    messages = [ChatMessage(Role.USER, SpeechTokens(tokens))]
    async with aclosing(rooms.chat.reply(messages, options, work)) as pieces:
        return "".join([piece.text async for piece in pieces]).strip()


async def spoken(rooms: Rooms, clause: str, voice: PreparedVoice, work: Work) -> list[int]:
    """All speech tokens of a clause, with the next seed where one gives no speech."""
    for attempt in range(ATTEMPTS):
        try:
            async with aclosing(rooms.speech.speak(clause, voice, seed=SEED + attempt, work=work)) as groups:
                return [token async for group in groups for token in group]
        except GenerationError as error:
            failure = error
    raise failure


def report(waits: Mapping[str, Sequence[Wait]]) -> str:
    """The tables of all questions."""
    streamed, ordered = waits["streamed"], waits["one by one"]
    same = sum(a.text == b.text for a, b in zip(streamed, ordered, strict=True))
    lines = [
        table(
            ("way", "questions", "median s", "mean s", "95 % s", "processor s"),
            [_summary(way, waits[way]) for way in ("streamed", "one by one")],
        ),
        "",
        f"**{ratio(streamed, ordered):.2f} times** sooner (median of the questions' own ratios); by the processor time "
        f"of all processes {_mean(w.processor_s for w in ordered) / _mean(w.processor_s for w in streamed):.2f}; "
        f"the same reply both ways for {same} of {len(streamed)} questions.",
        "",
        table(("ms of the wait, mean", *PARTS), [_parts(way, found) for way, found in waits.items()]),
    ]
    return "\n".join(lines)


def ratio(streamed: Sequence[Wait], ordered: Sequence[Wait]) -> float:
    """How many times sooner: the median over questions, each against itself."""
    return statistics.median(b.wall_s / a.wall_s for a, b in zip(streamed, ordered, strict=True))


def _summary(way: str, waits: Sequence[Wait]) -> tuple[str, ...]:
    walls = [wait.wall_s for wait in waits]
    figures = (statistics.median(walls), _mean(walls), percentile(walls, 95), _mean(wait.processor_s for wait in waits))
    return (way, str(len(waits)), *(f"{figure:.3f}" for figure in figures))


def _parts(way: str, waits: Sequence[Wait]) -> tuple[str, ...]:
    means = (_mean(wait.parts_s.get(part, 0.0) for wait in waits) for part in PARTS)
    return (way, *(f"{1000 * mean:.0f}" for mean in means))


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


if __name__ == "__main__":
    main()
