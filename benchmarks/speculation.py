"""What preparing replies at pauses brings, and what it costs: on callers who pause in mid-sentence.

    python -m benchmarks.turns.clips out/clips                         once: gets the recordings
    python -m benchmarks.speculation [--quick] [--turn-model FILE] [--half tuning] [--json FILE]

Every way of ending and preparing turns holds the same conversations, in one run and in virtual time: the real
controller, pipeline and voice activity, with rooms that take as long as the large models. See benchmarks/turns.

    caller    ▒▒▒▒▒▒▒──▒▒▒▒▒▒▒▒▒▒────▒▒▒▒▒▒▒▒▒|─────────────|♪      wait: from the last sound to the first audio
    prepared           ├ ✗           ├ ✗       ├────────────|        committed: of all that were begun

 * cut off: utterances of which a reply was begun before their end
 * saved: the wait without preparing less the wait with it, utterance by utterance
 * wasted: tokens of replies that nobody heard, of all tokens that were generated

Knobs were chosen on the callers of the tuning half; the figures are those of the other half.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.report import percentile, table
from benchmarks.turns.corpus import Caller, Half, callers
from benchmarks.turns.virtual import Elsewhere, Heard, StandingDetector, StandingTurnModel, converse
from services.orchestrator.adapters.silero import SileroDetector
from services.orchestrator.adapters.smart_turn import SmartTurnModel
from services.orchestrator.config import SMART_TURN_SHA256
from services.orchestrator.conversation.options import (
    SERVED_TURN_TAKING,
    BargeInOptions,
    EndpointingMode,
    Options,
    SpeculationOptions,
    TurnTakingOptions,
)
from services.orchestrator.ports.hearing import TurnModel

CLIPS: Final = Path("out/clips")
TURN_MODEL_S: Final = 0.08
"""Of one judgement on one processor."""
QUICK_CALLERS: Final = 2
HEADER: Final = (
    "the turn ends by",
    "prepared",
    "cut off",
    "wait ms, median",
    "90 %",
    "begun",
    "committed",
    "saved ms, median",
    "90 %",
    "wasted tokens",
)


@dataclass(frozen=True, slots=True)
class Way:
    """How turns are ended, with and without replies prepared ahead."""

    name: str
    taking: TurnTakingOptions
    model: TurnModel | None = None

    def options(self, *, prepares: bool) -> Options:
        """Of a session; speech interrupts, so that who was cut off is heard."""
        taking = self.taking
        return Options(
            turn_taking=TurnTakingOptions(
                mode=taking.mode,
                while_idle=taking.while_idle,
                while_replying=taking.while_replying,
                while_tool_running=taking.while_tool_running,
                barge_in=BargeInOptions(enabled=True),
                speculation=SpeculationOptions(enabled=prepares),
            )
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What one way gave: utterance by utterance, without preparing and with it."""

    plain: list[Heard]
    ahead: list[Heard]

    @property
    def saved_ms(self) -> list[float]:
        """Of utterances that were answered whole both times."""
        pairs = zip(self.plain, self.ahead, strict=True)
        return [1000 * (a.wait_s - b.wait_s) for a, b in pairs if not a.is_cut_off and not b.is_cut_off]

    @property
    def begun(self) -> int:
        """Replies that were prepared."""
        return sum(heard.work.started for heard in self.ahead)

    @property
    def committed(self) -> int:
        """Of them, those that answered a whole utterance."""
        return sum(heard.is_committed and not heard.is_cut_off for heard in self.ahead)

    @property
    def wasted_share(self) -> float:
        """Of all tokens that the models made."""
        wasted = sum(heard.work.wasted_tokens for heard in self.ahead)
        return wasted / (wasted + sum(heard.tokens for heard in self.ahead))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"only {QUICK_CALLERS} callers")
    parser.add_argument("--half", type=Half, choices=list(Half), default=Half.HELD_OUT)
    parser.add_argument("--clips", type=Path, default=CLIPS, help="folder of the recordings")
    parser.add_argument("--turn-model", type=Path, help="smart-turn-v3.2-cpu.onnx")
    parser.add_argument("--json", type=Path, default=Path("out/speculation.json"), help="all figures")
    asked = parser.parse_args()
    speaking = callers(asked.clips, asked.half)[: QUICK_CALLERS if asked.quick else None]
    with ExitStack() as stack:
        elsewhere = Elsewhere()
        stack.callback(elsewhere.close)
        silero = SileroDetector()
        stack.callback(silero.close)
        model = None
        if asked.turn_model is not None:
            smart_turn = SmartTurnModel(asked.turn_model, sha256=SMART_TURN_SHA256)
            stack.callback(smart_turn.close)
            model = StandingTurnModel(smart_turn, elsewhere, takes_s=TURN_MODEL_S)
        hold = partial(converse_all, speaking, StandingDetector(silero, elsewhere))
        found = {way.name: Found(hold(way, prepares=False), hold(way, prepares=True)) for way in ways(model)}
    said = [said for caller in speaking for said in caller.utterances]
    pauses = sum(len(one.pauses) for one in said)
    print(f"{asked.half}: {len(speaking)} callers, {len(said)} utterances, {pauses} pauses put in\n")
    print(report(found))
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps({name: asdict(one) for name, one in found.items()}, indent=1) + "\n")


def ways(model: TurnModel | None) -> list[Way]:
    """What is compared: a fixed silence, the caller's own (the server's default), and the turn model on top of it."""
    learned = SERVED_TURN_TAKING
    found = [Way("silence of 700 ms", TurnTakingOptions()), Way("learned silence (default)", learned)]
    if model is not None:
        judged = TurnTakingOptions(EndpointingMode.TURN_MODEL, while_idle=learned.while_idle)
        found.append(Way("turn model and learned silence", judged, model))
    return found


def converse_all(speaking: Sequence[Caller], detector: StandingDetector, way: Way, *, prepares: bool) -> list[Heard]:
    """The conversations of all callers."""
    options = way.options(prepares=prepares)
    return [
        heard
        for number, caller in enumerate(speaking, 1)
        for heard in converse(caller, options, detector, way.model, seed=number)
    ]


def report(found: Mapping[str, Found]) -> str:
    """The table."""
    rows: list[tuple[object, ...]] = []
    for name, one in found.items():
        rows.append((name, "no", *_common(one.plain), "", "", "", "", ""))
        saved = [f"{percentile(one.saved_ms, share):.0f}" for share in (50, 90)]
        rate = f"{one.committed} ({_percent(one.committed, one.begun)})"
        wasted = f"{100 * one.wasted_share:.0f} %"
        rows.append((name, "yes", *_common(one.ahead), one.begun, rate, *saved, wasted))
    return table(HEADER, rows)


def _common(heard: Sequence[Heard]) -> tuple[str, ...]:
    answered: Callable[[int], str] = lambda share: f"{percentile([1000 * one.wait_s for one in heard], share):.0f}"  # noqa: E731  # used twice, here
    cut_off = sum(one.is_cut_off for one in heard)
    return f"{cut_off} ({_percent(cut_off, len(heard))})", answered(50), answered(90)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f} %"


if __name__ == "__main__":
    main()
