"""How long the caller waits: from the end of speech to the first sound, streamed and one room after another.

    python -m benchmarks.first_audio [--questions N] [--quick] [--json FILE]

                     speech          silence
    streamed         ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒|─────|♪ ♪ ♪ ♪ ♪      client, gRPC, Ray Serve, Redis, four Triton servers
    one by one       ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒|tokenizer──|lm─────|tts──────────|vocoder──────|♪ ♪ ♪ ♪ ♪
                                     the same servers, each room run to its end before the next one begins

Questions are asked both ways by turns, A B A B …, with the same seeds, so that the same reply is spoken. The caller
ends its turn itself, so that what is compared is the rooms and what stands between them. The speech is sent in real
time, as a microphone gives it.

One by one, the caller waits for the whole reply; streamed, for the beginning of its first clause. So the ratio grows
with the reply, and is told for each length: for the nano checkpoint's own short sentences, and for replies of several
sentences, whose words are dictated to the chat model (dictation.py), which does all its work as ever. The last table
has the whole silence of a caller whose end of turn is found by silence, without and with replies prepared at pauses.
The server's own breakdown counts from the last sound of speech: the silence at a clip's end is endpointing too.

Seconds are wall time. Beside them stands the processor time that all of the system's processes used meanwhile, which
other work on the machine does not lengthen.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from benchmarks.dictation import dictating_repository
from benchmarks.report import machine, percentile, table, write_json
from benchmarks.wire import HEARD_RATE_HZ, PARTS, SEED, SILENCE, Manner, Place, RoomByRoom, Wait, ask
from services.local.record import read_record
from services.local.settings import LocalSettings
from services.local.system import LocalSystem
from services.orchestrator.adapters.triton.checkpoint import Checkpoint, read_checkpoint
from services.orchestrator.adapters.triton.connect import connect_rooms
from services.shared.prompt.chat.system_prompts import CHAT_SYSTEM_PROMPT
from stepaudio.formats import Samples
from stepaudio.sources import read_speech

QUESTIONS: Final = Path(__file__).parent / "data" / "nano_questions"
QUICK_QUESTIONS: Final = 8
STREAMED, ONE_BY_ONE = "streamed", "one by one"
BY_SILENCE, PREPARED = "silence", "silence, prepared at pauses"
OWN: Final = "its own sentence"
REPLIES: Final[Mapping[str, str]] = {
    "3 sentences": "The sheep says baa. I cannot sing, but I can tell a joke. A week has seven days.",
    "6 sentences": "The sheep says baa. I cannot sing, but I can tell a joke. A week has seven days. "
    "I cannot turn off the garden light yet. The capital of France is Paris. September comes after August.",
}
"""What is dictated: sentences that the nano checkpoint says by itself."""
SEEDS: Final[Mapping[str, int]] = {OWN: SEED, **{name: 101 + place for place, name in enumerate(REPLIES)}}
LONGER_SHARE: Final = 2
"""One question in so many is also asked for the longer replies."""

Results = dict[str, dict[str, list[Wait]]]
"""Reply -> way -> one entry a question."""


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
        usual = LocalSettings()
        dictated = {SEEDS[name]: text for name, text in REPLIES.items()}
        repository = dictating_repository(usual.model_repository, Path(folder) / "models", dictated)
        settings = LocalSettings(run_folder=Path(folder) / "run", model_repository=repository)
        system = LocalSystem(settings, notify=lambda step: None, rooms_only=False)
        try:
            results = asyncio.run(start_and_measure(system, settings, speeches))
        finally:
            system.stop()
    print(report(results))
    if arguments.json:
        found = {
            reply: {way: [asdict(wait) for wait in waits] for way, waits in ways.items()}
            for reply, ways in results.items()
        }
        write_json(arguments.json, found)


def read_questions(count: int) -> list[Samples]:
    """The first spoken questions, at the rate that is heard."""
    lines = (QUESTIONS / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return [read_speech(QUESTIONS / json.loads(line)["file"], HEARD_RATE_HZ) for line in lines[:count]]


async def start_and_measure(system: LocalSystem, settings: LocalSettings, speeches: Sequence[Samples]) -> Results:
    """Start everything and ask every question in every way."""
    await system.start()
    record = read_record(settings.run_folder)
    assert record is not None  # it was written by the start
    return await measure(Place.of(record), read_checkpoint(settings.checkpoints), speeches)


async def measure(place: Place, checkpoint: Checkpoint, speeches: Sequence[Samples]) -> Results:
    """Ask every question in every way; the first one is asked once before, uncounted."""
    results: Results = {}
    async with connect_rooms(place.rooms, checkpoint) as connected:
        rooms = connected.rooms
        voice = await rooms.built_in.get(rooms.built_in.default_name)
        ordered = RoomByRoom(place, rooms, checkpoint, voice, CHAT_SYSTEM_PROMPT)
        await both_ways(place, ordered, speeches[0], SEED)
        for reply, seed in SEEDS.items():
            ways: dict[str, list[Wait]] = {}
            for speech in speeches if reply == OWN else speeches[::LONGER_SHARE]:
                answers = await both_ways(place, ordered, speech, seed)
                if reply == OWN:
                    answers[BY_SILENCE], _ = await ask(place, speech, Manner(SILENCE))
                    answers[PREPARED], _ = await ask(place, speech, Manner(SILENCE, prepares=True))
                for way, wait in answers.items():
                    ways.setdefault(way, []).append(wait)
            results[reply] = ways
    return results


async def both_ways(place: Place, ordered: RoomByRoom, speech: Samples, seed: int) -> dict[str, Wait]:
    """One question, streamed and one room after another."""
    streamed, _ = await ask(place, speech, Manner(seed=seed))
    return {STREAMED: streamed, ONE_BY_ONE: await ordered.ask(speech, seed=seed)}


def report(results: Results) -> str:
    """The tables of all questions."""
    own = results[OWN]
    ways = {f"{way}, {reply}": ways[way] for reply, ways in results.items() for way in (STREAMED, ONE_BY_ONE)}
    by_silence = {way: own[way] for way in (BY_SILENCE, PREPARED)}
    return "\n".join(
        [
            table(
                ("reply", "questions", "audio s", "streamed s", "95 %", "one by one s", "95 %", "times sooner",
                 "by processor time", "same words"),
                [_summary(reply, ways[STREAMED], ways[ONE_BY_ONE]) for reply, ways in results.items()],
            ),
            "",
            table(("ms of the wait, mean", *PARTS), [_parts(*way) for way in {**ways, **by_silence}.items()]),
            "",
            table(
                ("the turn ended by", "questions", "silence heard, median s", "95 %", "of it after the end, ms"),
                [_silence(way, waits) for way, waits in by_silence.items()],
            ),
        ]
    )  # fmt: skip


def ratio(streamed: Sequence[Wait], ordered: Sequence[Wait]) -> float:
    """How many times sooner: the median over questions, each against itself."""
    return statistics.median(b.wall_s / a.wall_s for a, b in zip(streamed, ordered, strict=True))


def _summary(reply: str, streamed: Sequence[Wait], ordered: Sequence[Wait]) -> tuple[str, ...]:
    same = sum(a.text == b.text for a, b in zip(streamed, ordered, strict=True))
    by_processor = _mean(w.processor_s for w in ordered) / _mean(w.processor_s for w in streamed)
    seconds = [figure for way in (streamed, ordered) for figure in _walls(way)]
    return (
        reply,
        str(len(streamed)),
        f"{statistics.median(wait.audio_s for wait in ordered):.1f}",
        *(f"{figure:.3f}" for figure in seconds),
        f"{ratio(streamed, ordered):.2f}",
        f"{by_processor:.2f}",
        f"{same} of {len(streamed)}",
    )


def _silence(way: str, waits: Sequence[Wait]) -> tuple[str, ...]:
    heard = [sum(wait.parts_s.values()) for wait in waits]
    after = [1000 * (sum(wait.parts_s.values()) - wait.parts_s["endpointing"]) for wait in waits]
    silence = f"{statistics.median(heard):.3f}", f"{percentile(heard, 95):.3f}"
    return (way, str(len(waits)), *silence, f"{statistics.median(after):.0f}")


def _walls(waits: Sequence[Wait]) -> tuple[float, float]:
    walls = [wait.wall_s for wait in waits]
    return statistics.median(walls), percentile(walls, 95)


def _parts(way: str, waits: Sequence[Wait]) -> tuple[str, ...]:
    means = (_mean(wait.parts_s.get(part, 0.0) for wait in waits) for part in PARTS)
    return (way, *(f"{1000 * mean:.0f}" for mean in means))


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


if __name__ == "__main__":
    main()
