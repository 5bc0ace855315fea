"""From outcomes to the table of figures, each beside its goal.

Decides: which figure is made of which outcomes, and when a goal is met. Refuses to know: how outcomes came to be.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from benchmarks.nano.asking import (
    ALIGNED,
    ANSWERED,
    CLONED,
    HUMAN,
    RECALLED,
    RECORDED,
    REPEAT,
    RESYNTHESISED,
    SPOKEN,
    TTS_REPLIES,
    TTS_SENTENCES,
    WRITTEN,
    Outcome,
)
from benchmarks.nano.figures import Interval, error_rate, kept_words, mean, nearest, rate, word_errors, words
from benchmarks.nano.judges import Samples, SpeakerModel
from benchmarks.report import table
from services.nano.evaluation import NEW_TO_NEW

UNDERSTOOD_WER: Final = 0.2
"""A spoken reply is understood if the judge's words differ from a right reply by no more than this."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        name: what is measured.
        found: the figure, by the first judge where one is needed.
        second: the same by the second judge.
        goal: what was set; None for none.
        higher_is_better: which side of the goal is wanted.
        note: beside it.
    """

    name: str
    found: Interval
    second: Interval | None = None
    goal: float | None = None
    higher_is_better: bool = True
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the figure itself reaches the goal."""
        if self.goal is None:
            return True
        return self.found.value >= self.goal if self.higher_is_better else self.found.value <= self.goal


def figures(outcomes: Sequence[Outcome], vocabulary: frozenset[str]) -> list[Figure]:
    """All figures that these outcomes give."""
    return [*_understanding(outcomes), *_human(outcomes, vocabulary), *_speech(outcomes)]


def voice_figures(outcomes: Sequence[Outcome], model: SpeakerModel, clips: dict[str, Samples]) -> list[Figure]:
    """Whether the voices are told apart, and whether a clone stays with its own.

    Args:
        outcomes: with spoken sentences of each voice and of the clone.
        model: of speakers.
        clips: samples at 16 kHz of each voice's own clip, and of the cloned voice, by the outcomes' groups.
    """
    own = {name: model(samples) for name, samples in clips.items()}
    found: list[Figure] = []
    for name, part in ((TTS_SENTENCES, TTS_SENTENCES), (CLONED, CLONED)):
        members = [o for o in outcomes if o.part == part and o.samples is not None and o.group in own]
        near = [{voice: float(model(o.samples) @ vector) for voice, vector in own.items()} for o in members]
        if not members or len(own) < 2:
            continue
        to_own = [row[o.group] for row, o in zip(near, members, strict=True)]
        to_other = [max(v for k, v in row.items() if k != o.group) for row, o in zip(near, members, strict=True)]
        closer = [a > b for a, b in zip(to_own, to_other, strict=True)]
        voices = ", ".join(dict.fromkeys(o.group for o in members))
        note = f"{voices}; similarity {mean(to_own).value:.2f} to its own, {mean(to_other).value:.2f} to the nearest"
        found.append(Figure(f"closest to its own clip: {name}", rate(closer), goal=0.9, note=note))
    return found


def opinion_figures(outcomes: Sequence[Outcome], opinion: Callable[[Samples], float]) -> list[Figure]:
    """DNSMOS of everything spoken, beside the recordings'."""
    found = []
    for part in (RECORDED, RESYNTHESISED, TTS_SENTENCES, TTS_REPLIES):
        scores = [opinion(o.samples) for o in outcomes if o.part == part and o.samples is not None]
        if scores:
            found.append(Figure(f"DNSMOS: {part}", mean(scores), note=f"lowest {min(scores):.2f}"))
    return found


def figure_table(found: Sequence[Figure]) -> str:
    """Markdown."""
    rows = []
    for one in found:
        side = "≥" if one.higher_is_better else "≤"
        goal = "" if one.goal is None else f"{side} {one.goal:g}: {'met' if one.is_met else 'MISSED'}"
        rows.append([one.name, one.found, one.second or "", goal, one.note])
    return table(["figure", "measured (95 %)", "second judge", "goal", ""], rows)


def _understanding(outcomes: Sequence[Outcome]) -> Iterator[Figure]:
    for group in dict.fromkeys(o.group for o in outcomes if o.part == ANSWERED):
        members = [o for o in outcomes if o.part == ANSWERED and o.group == group]
        is_first = group == NEW_TO_NEW
        right = rate([bool(o.right) for o in members])
        yield Figure(f"right reply from speech: {group}", right, goal=0.85 if is_first else None)
        for title, chosen in _by_repetition(members).items():
            yield Figure(f"… {title}", rate([bool(o.right) for o in chosen]))
        heard = error_rate([word_errors(o.heard or "", o.text) for o in members])
        yield Figure(f"own transcript, WER: {group}", heard, goal=0.15 if is_first else None, higher_is_better=False)
    for group in dict.fromkeys(o.group for o in outcomes if o.part == WRITTEN):
        right = rate([bool(o.right) for o in outcomes if o.part == WRITTEN and o.group == group])
        yield Figure(f"right reply to the same in writing: {group.partition(',')[0]}", right)
    recalled = [bool(o.right) for o in outcomes if o.part == RECALLED]
    if recalled:
        yield Figure("name recalled from the history", rate(recalled), goal=0.9)


def _human(outcomes: Sequence[Outcome], vocabulary: frozenset[str]) -> Iterator[Figure]:
    members = [o for o in outcomes if o.part == HUMAN]
    if not members:
        return
    inside = [o for o in members if set(words(o.text)) <= vocabulary]
    note = f"{sum(len(words(o.text)) for o in inside)} words"
    found = error_rate([word_errors(o.heard or "", o.text) for o in inside])
    yield Figure("human clips within the vocabulary, WER", found, higher_is_better=False, note=note)
    kept = [kept_words(o.heard or "", o.text, vocabulary) for o in members]
    yield Figure("words of the vocabulary found again in all human clips", error_rate([k for k in kept if k[1]]))


def _speech(outcomes: Sequence[Outcome]) -> Iterator[Figure]:
    goals = {RECORDED: None, RESYNTHESISED: 0.12, TTS_REPLIES: 0.10, TTS_SENTENCES: 0.20, CLONED: None}
    for part, goal in goals.items():
        members = [o for o in outcomes if o.part == part]
        parts = {f"… {title}": chosen for title, chosen in _by_repetition(members).items()}
        for name, chosen in {f"judge's WER: {part}": members, **parts}.items():
            by_judge = _by_judge(chosen, error_rate)
            if by_judge:
                second = by_judge[1] if len(by_judge) > 1 else None
                aim = goal if chosen is members else None
                yield Figure(name, by_judge[0], second, aim, higher_is_better=False)
    spoken = [o for o in outcomes if o.part == SPOKEN]
    for title, most, goal in (("understood", UNDERSTOOD_WER, 0.75), ("heard word for word", 0.0, None)):
        rates = _by_judge(spoken, partial(_within, most))
        if rates:
            yield Figure(f"spoken reply right and {title}", rates[0], rates[1] if len(rates) > 1 else None, goal)
    aligned = [o for o in outcomes if o.part == ALIGNED]
    if aligned:
        slips = rate([not o.right for o in aligned])
        yield Figure("streams out of 2:3 alignment", slips, goal=0.0, higher_is_better=False)


def _by_repetition(members: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """What only repeats random words, and all else, where both occur."""
    repeated = [o for o in members if o.intent == REPEAT]
    others = [o for o in members if o.intent != REPEAT]
    return {"without random words to repeat": others, "random words to repeat": repeated} if repeated and others else {}


def _within(most: float, pairs: Sequence[tuple[int, int]]) -> Interval:
    """Share of items with so many errors a word at most."""
    return rate([errors <= most * count for errors, count in pairs])


def _by_judge(members: Sequence[Outcome], figure: Callable[[Sequence[tuple[int, int]]], Interval]) -> list[Interval]:
    """The figure of these outcomes' word errors, for each judge."""
    names = list(dict.fromkeys(name for o in members for name in o.judged))
    return [figure([nearest(o.judged[name], o.wanted) for o in members if name in o.judged]) for name in names]
