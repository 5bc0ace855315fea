"""Plays a recording: the core of this release takes the recorded events, and must do what was done then.

    recorded   event 1 ─> line 1   event 2 ─> line 2   event 3 ─> line 3
    played     event 1 ─> line 1   event 2 ─> line 2   event 3 ─> another line        the first difference ends it

Time is what the events say; nothing waits.
"""

import difflib
import json
from dataclasses import dataclass

from services.orchestrator.conversation.events import Event
from services.orchestrator.pipeline.core import PureCore
from services.orchestrator.replay.lines import (
    END_BY_SIZE,
    Content,
    Recording,
    Step,
    describe,
    write_failure,
    write_head,
    write_step,
)


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a replay leaves its recording.

    Attributes:
        step: the recorded one.
        event: its number among the events, from 1.
        of: how many events there are.
        replayed: the line that this release writes.
        has_words: the recording has all words; if not, what they decided may be the reason.
    """

    step: Step
    event: int
    of: int
    replayed: str
    has_words: bool

    def __str__(self) -> str:
        kind, at_s = type(self.step.event).__name__, self.step.event.at_s
        lines = [f"event {self.event} of {self.of} (line {self.step.number}), {kind} at {at_s:.3f} s, differs:"]
        lines += difflib.unified_diff(
            _shown(self.step.line), _shown(self.replayed), "recorded", "replayed", "", "", 2, ""
        )
        if not self.has_words:
            lines.append("(the recording has no words: a decision that hung on them may be the reason)")
        return "\n".join(lines)


class Recorded:
    """A core that says of each event the line that is recorded of it.

    Args:
        core: decides.
        content: what is recorded of words.
    """

    def __init__(self, core: PureCore, content: Content) -> None:
        self._core = core
        self._content = content
        self._state = describe(core.state)

    def play(self, event: Event) -> str:
        """Take an event; gives its line."""
        try:
            effects = self._core.step(event)
        except Exception as error:  # noqa: BLE001 - a core that fails is what one wants to see again
            return write_failure(event, error, self._content)
        before, self._state = self._state, describe(self._core.state)
        return write_step(event, effects, self._state if effects or before != self._state else "", self._content)


def first_difference(recording: Recording) -> Difference | None:
    """Play a recording; None if all is as it was."""
    content = recording.head.content
    core = Recorded(PureCore(recording.head.beginning), content)
    for count, step in enumerate(recording.steps, 1):
        line = core.play(step.event)
        if line != step.line:
            return Difference(step, count, len(recording.steps), line, content is Content.TEXT)
    return None


def replayed(recording: Recording) -> str:
    """The file as this release would have recorded the same events."""
    core = Recorded(PureCore(recording.head.beginning), recording.head.content)
    lines = [write_head(recording.head), *(core.play(step.event) for step in recording.steps)]
    return "\n".join([*lines, *([END_BY_SIZE] if recording.is_cut else [])]) + "\n"


def _shown(line: str) -> list[str]:
    """A line for people: one value a line, the event left out."""
    step = json.loads(line)
    del step["event"]
    return json.dumps(step, ensure_ascii=False, indent=1).splitlines()
