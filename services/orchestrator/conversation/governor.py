"""What is given up when the rooms fall behind, so that the audio flows on: a pure machine of four levels.

    margin    audio that a listener in real time still has when the next samples of a reply come; 0 is silence

    level 0 ──── `STRIKES` margins below `worse_ms`, one after another ────> 1 ────> 2 ────> 3
            <─── no margin below `better_ms` for `CALM_S` ──────────────────

Each level keeps what the one before gave up, in the order of what a listener notices least. A level is left above
another margin than it is entered at, and later than it is entered: a load that has just been shed does not come back
at once. It knows no clock and no rooms: margins come with their moments.
"""

from dataclasses import dataclass, replace
from typing import Final

from services.orchestrator.conversation.record import Degradation

STRIKES: Final = 3
CALM_S: Final = 5.0
SETTLING_S: Final = 1.0
"""What a level gave up shows in the margins after about the length of a chunk; until then none is judged."""


@dataclass(frozen=True, slots=True)
class Row:
    """One level beyond the first.

    Attributes:
        worse_ms: margins below it lead here from the level before.
        better_ms: margins that stay at or above it lead back.
        gives_up: what is given up here beside what the levels before give up.
    """

    worse_ms: float
    better_ms: float
    gives_up: Degradation


POLICY: Final = (
    Row(worse_ms=240, better_ms=600, gives_up=Degradation.SMALLER_FIRST_CHUNK),
    Row(worse_ms=160, better_ms=480, gives_up=Degradation.FEWER_FLOW_STEPS),
    Row(worse_ms=80, better_ms=360, gives_up=Degradation.NO_SPECULATION),
)


@dataclass(frozen=True, slots=True)
class Governor:
    """Where a replica stands.

    Attributes:
        max_level: it never gives up more than this; 0 gives up nothing.
        level: 0 to `len(POLICY)`.
        strikes: margins that were too small since the last one that was not.
        judges_from_s: margins before this moment are those of the level before.
        calm_from_s: no margin has been below the level's `better_ms` since.
    """

    max_level: int = len(POLICY)
    level: int = 0
    strikes: int = 0
    judges_from_s: float = 0.0
    calm_from_s: float = 0.0

    @property
    def given_up(self) -> frozenset[Degradation]:
        """What is given up now."""
        return frozenset(row.gives_up for row in POLICY[: self.level])


def observed(governor: Governor, at_s: float, margin_ms: float) -> Governor:
    """The governor once samples of a reply came with so much audio left before the listener."""
    if at_s < governor.judges_from_s:
        return governor
    if governor.level and margin_ms < POLICY[governor.level - 1].better_ms:
        governor = replace(governor, calm_from_s=at_s)
    if governor.level < governor.max_level:
        is_low = margin_ms < POLICY[governor.level].worse_ms
        governor = replace(governor, strikes=governor.strikes + 1 if is_low else 0)
        if governor.strikes >= STRIKES:
            return _at(governor, governor.level + 1, at_s)
    return reviewed(governor, at_s)


def reviewed(governor: Governor, at_s: float) -> Governor:
    """The governor as time goes by; to be asked now and then, since an idle replica has no margins."""
    if governor.level and at_s - governor.calm_from_s >= CALM_S:
        return _at(governor, governor.level - 1, at_s)
    return governor


def _at(governor: Governor, level: int, at_s: float) -> Governor:
    return replace(governor, level=level, strikes=0, judges_from_s=at_s + SETTLING_S, calm_from_s=at_s)
