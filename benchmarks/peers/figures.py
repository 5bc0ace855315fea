"""What is computed from what was noted: the framework's own share of a turn, of processor time, and the comparison."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.peers.scene import SILENCE_MS, Turn


@dataclass(frozen=True, slots=True)
class Overhead:
    """What a turn took above its configured silence and the stubs' own time, in seconds.

    Attributes:
        ending_s: from the moment the silence was long enough to the request to the language model.
        reply_s: from there to the first audio, without the time in which a stub worked.
    """

    ending_s: float
    reply_s: float

    @property
    def whole_s(self) -> float:
        """Both."""
        return self.ending_s + self.reply_s


def covered_s(spans: Iterable[tuple[float, float]], begin_s: float, end_s: float) -> float:
    """Length of what the spans cover between two moments; what they cover twice counts once."""
    total_s, reached_s = 0.0, begin_s
    for first_s, last_s in sorted(spans):
        first_s, last_s = max(first_s, reached_s), min(last_s, end_s)
        if last_s > first_s:
            total_s += last_s - first_s
            reached_s = last_s
    return total_s


def overheads(turns: Sequence[Turn], *, warm_up: int = 1) -> list[Overhead]:
    """Of every turn that was answered; the first ones of a conversation are not counted."""
    return [
        Overhead(
            turn.asked_s - turn.speech_end_s - SILENCE_MS / 1000,
            turn.heard_s - turn.asked_s - covered_s(turn.busy, turn.asked_s, turn.heard_s),
        )
        for turn in turns[warm_up:]
        if turn.heard_s
    ]


def cost_us(used_s: float, frames_in: float, frames_out: float) -> float:
    """Microseconds of processor time for one frame in and one out."""
    return 1e6 * used_s / ((frames_in + frames_out) / 2)


def evenness(due: float, *frames: float) -> float:
    """Share of the frames that were due and went through, of the worse way; too many at once count against."""
    return min(min(count / due, due / count) if count else 0.0 for count in frames)


def above(costs: Sequence[float], driver: Sequence[float]) -> float:
    """Median of what a framework took above the driver alone, round by round."""
    return statistics.median(cost - alone for cost, alone in zip(costs, driver, strict=True))


def ratios(figures: Mapping[str, float], ours: str) -> dict[str, float]:
    """Ours as a share of each other one; NaN where that is nothing."""
    return {
        name: figures[ours] / figure if figure > 0 else math.nan for name, figure in figures.items() if name != ours
    }
