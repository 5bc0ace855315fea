"""What all sessions of a replica share."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.pipeline.observer import Observer
from services.orchestrator.pipeline.rations import Rations
from services.orchestrator.pipeline.voices import VoiceBook
from services.orchestrator.ports.hearing import TurnModel, VoiceActivityDetector
from services.orchestrator.ports.rooms import Rooms
from services.orchestrator.ports.store import SessionStore
from services.orchestrator.ports.tools import ToolRunner


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a session is given from outside.

    Attributes:
        rooms: where the models are.
        voices: who can speak.
        detector: finds speech.
        store: keeps sessions.
        limits: bounds and patience.
        observer: watches.
        clock: monotonic seconds, the event loop's.
        wall_clock: seconds since 1970.
        chance: draws seeds and waits.
        default_prompt: the system prompt where a caller chose none.
        turn_model: judges whether turns are complete; without one silence alone decides.
        tools: runs functions that clients do not run; without it there are none.
        rations: what the sessions may spend.
    """

    rooms: Rooms
    voices: VoiceBook
    detector: VoiceActivityDetector
    store: SessionStore
    limits: PipelineLimits
    observer: Observer
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    chance: random.Random
    default_prompt: str
    turn_model: TurnModel | None = None
    tools: ToolRunner | None = None
    rations: Rations = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rations", Rations(self.limits.rations, self.clock))

    @property
    def wall_s(self) -> float:
        """What added to a monotonic time gives wall time."""
        return self.wall_clock() - self.clock()
