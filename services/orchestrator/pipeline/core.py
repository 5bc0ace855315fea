"""The conversation's pure core as the shell drives it: one object that holds the state and takes events."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from services.orchestrator.conversation.core import Past, begin, step
from services.orchestrator.conversation.effects import Effect
from services.orchestrator.conversation.events import Event
from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.record import Message
from services.orchestrator.conversation.state import State, playout_lead_s, playout_slack_s


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a conversation begins with.

    Attributes:
        options: in force.
        history: that the client gave.
        reply_rate_hz: of the vocoder.
        past: of a session that is taken over.
        seed: from which each reply's speech gets its own; None leaves them to the shell.
        session_id: whose it is.
    """

    options: Options
    history: tuple[Message, ...]
    reply_rate_hz: int
    past: Past | None = None
    seed: int | None = None
    session_id: str = ""


class Core(Protocol):
    """Takes events, one after another."""

    @property
    def options(self) -> Options:
        """In force."""

    @property
    def epoch(self) -> int:
        """The newest."""

    @property
    def has_ended(self) -> bool:
        """Nothing more happens."""

    @property
    def settled_sample(self) -> int:
        """The user's audio before it belongs to the open utterance whatever comes."""

    @property
    def released_sample(self) -> int:
        """The user's audio before it is dealt with."""

    @property
    def is_replying(self) -> bool:
        """A reply is under way: made, sent or heard."""

    def playout_lead_s(self, now_s: float) -> float:
        """How far the reply under way was sent ahead of what was heard."""

    def playout_slack_s(self, now_s: float) -> float:
        """The same, of a listener who hears no faster than in real time."""

    def step(self, event: Event) -> tuple[Effect, ...]:
        """Take an event and say what is to be done."""


MakeCore = Callable[[Beginning], Core]


class PureCore:
    """`begin` and `step` of the conversation."""

    def __init__(self, beginning: Beginning) -> None:
        self._state: State = begin(
            beginning.options,
            reply_rate_hz=beginning.reply_rate_hz,
            history=beginning.history,
            past=beginning.past,
            seed=beginning.seed,
            resumes_replies=True,
        )

    @property
    def state(self) -> State:
        """All that it knows."""
        return self._state

    @property
    def options(self) -> Options:
        """See the protocol."""
        return self._state.options

    @property
    def epoch(self) -> int:
        """See the protocol."""
        return self._state.epoch

    @property
    def has_ended(self) -> bool:
        """See the protocol."""
        return self._state.has_ended

    @property
    def settled_sample(self) -> int:
        """See the protocol."""
        return self._state.settled_sample

    @property
    def released_sample(self) -> int:
        """See the protocol."""
        return self._state.released_sample

    @property
    def is_replying(self) -> bool:
        """See the protocol."""
        return self._state.live is not None

    def playout_lead_s(self, now_s: float) -> float:
        """See the protocol."""
        return playout_lead_s(self._state, now_s)

    def playout_slack_s(self, now_s: float) -> float:
        """See the protocol."""
        return playout_slack_s(self._state, now_s)

    def step(self, event: Event) -> tuple[Effect, ...]:
        """See the protocol."""
        self._state, effects = step(self._state, event)
        return effects
