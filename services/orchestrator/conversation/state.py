"""Everything the core knows of a conversation: one value, replaced by `step` and never changed.

A turn that the agent has taken up stands in `turns` until the store has it; what waits to be taken up has no number
yet. Only the last of `turns` can be replying.

    waiting ──START──> REPLYING ──heard──────────────────────────> OVER ──> CommitTurn ──> (history)
                          ├── interrupted ──> AWAITING_HEARD ──────^  acknowledged, or 500 ms later
                          └── stream lost ──> HELD ────────────────^  resumed, or closed
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from services.orchestrator.conversation.effects import Effect, Emit
from services.orchestrator.conversation.events import ReplyId
from services.orchestrator.conversation.options import EndpointingMode, Options
from services.orchestrator.conversation.outputs import Output
from services.orchestrator.conversation.playout import Playout
from services.orchestrator.conversation.record import FirstAudioBreakdown, Message, Origin, Outcome, ReplyWork
from services.orchestrator.conversation.tables import AgentState, UserState
from services.orchestrator.conversation.voice_activity import SAMPLES_PER_MS, Ears
from services.shared.errors import StepAudioError

MANUAL_LOOKBACK_MS: Final = 4000
"""Silence before the first speech that a manual utterance still has: below the 5 s after which audio is released."""

MAX_WAITING: Final = 8
"""Turns asked for by the client that wait, at most; and as many spoken ones."""


class StreamState(StrEnum):
    """Whether there is a client."""

    ATTACHED = "attached"
    DETACHED = "detached"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Utterance:
    """Speech of the user that has ended: its number, and its samples at 16 kHz."""

    number: int
    first_sample: int
    end_sample: int


@dataclass(frozen=True, slots=True)
class User:
    """What the user does, and the utterance that is open unless the state is SILENCE.

    Attributes:
        state: by the table of the user.
        utterance: number of the newest utterance.
        first_sample: of the open one.
        settled_sample: audio of the open one before it belongs to it whatever comes.
        started_s: when the open one began.
        free_from: an utterance begins here at the earliest: the end of the one before.
    """

    state: UserState = UserState.SILENCE
    utterance: int = 0
    first_sample: int = 0
    settled_sample: int = 0
    started_s: float = 0.0
    free_from: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A turn that the agent is to take up.

    Attributes:
        origin: how it came.
        started_s: when the user's part began.
        ended_s: when it ended: the caller waits from here.
        request_id: of the client's message.
        text: what the user wrote, or what is said.
        utterance: what the user spoke.
        waits: the client asked for it to wait for the reply under way.
    """

    origin: Origin
    started_s: float
    ended_s: float
    request_id: str = ""
    text: str = ""
    utterance: Utterance | None = None
    waits: bool = False


class Phase(StrEnum):
    """Where a turn is that has been taken up."""

    REPLYING = "replying"
    AWAITING_HEARD = "awaiting_heard"
    HELD = "held"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that has been taken up and is not kept yet.

    Attributes:
        reply: its number, and the epoch in which its reply was begun.
        asked: what it answers.
        begun_s: when its reply was begun.
        playout: its audio.
        reads: utterances that its context has as speech.
        phase: where it is.
        user_text: the user's words; None until a transcript has come.
        transcript_asked: whether it was asked for.
        text: of the reply, as far as it was made.
        work: what the reply took; None while its work goes on.
        error: why it could not be completed.
        first_audio: where the silence before it went.
        decide_by_s: an interrupted turn waits for the client's word until then.
        is_sent: all of the reply was sent.
        saved_characters: length of what a resume elsewhere would know of the text heard.
        outcome, heard_samples, agent_text, ended_s: how it ended; they hold once it is over.
        is_committing: the store has been asked to keep it.
    """

    reply: ReplyId
    asked: Asked
    begun_s: float
    playout: Playout
    reads: tuple[int, ...] = ()
    phase: Phase = Phase.REPLYING
    user_text: str | None = None
    transcript_asked: bool = False
    text: str = ""
    work: ReplyWork | None = None
    error: StepAudioError | None = None
    first_audio: FirstAudioBreakdown | None = None
    decide_by_s: float = 0.0
    is_sent: bool = False
    saved_characters: int = 0
    outcome: Outcome = Outcome.COMPLETED
    heard_samples: int = 0
    agent_text: str = ""
    ended_s: float = 0.0
    is_committing: bool = False

    @property
    def number(self) -> int:
        """The turn's number."""
        return self.reply.turn


@dataclass(frozen=True, slots=True)
class State:
    """A conversation; made by `begin`, replaced by `step`.

    Attributes:
        options: in force.
        reply_rate_hz: sample rate of replies.
        history: what the chat model is told of earlier turns, and of what came before the session.
        stream: whether there is a client.
        epoch: the present one.
        ears: what was heard last.
        user: what the user does.
        agent: what the agent does, by its table.
        next_turn: number of the next turn to be taken up.
        waiting: turns to be taken up, in this order.
        turns: turns that have been taken up and are not kept yet, oldest first.
        utterances: that the shell keeps tokens of, beside the open one.
        request_ids: of the client's turns.
        acknowledges: the client has acknowledged and not fallen silent since.
        input_ended: the user says nothing more.
        released_sample: the user's audio before it is dealt with, and the client knows.
        released_at_sample: the newest sample when the client was told so.
        has_ended: nothing more happens.
    """

    options: Options
    reply_rate_hz: int
    history: tuple[Message, ...] = ()
    stream: StreamState = StreamState.ATTACHED
    epoch: int = 1
    ears: Ears = field(default_factory=Ears)
    user: User = User()
    agent: AgentState = AgentState.IDLE
    next_turn: int = 1
    waiting: tuple[Asked, ...] = ()
    turns: tuple[Turn, ...] = ()
    utterances: tuple[int, ...] = ()
    request_ids: frozenset[str] = field(default_factory=frozenset)
    acknowledges: bool = False
    input_ended: bool = False
    released_sample: int = 0
    released_at_sample: int = 0
    has_ended: bool = False

    @property
    def live(self) -> Turn | None:
        """The turn whose reply is under way: made, sent or heard."""
        return self.turns[-1] if self.agent is AgentState.REPLYING else None

    @property
    def live_reply(self) -> ReplyId | None:
        """The reply under way."""
        return None if (live := self.live) is None else live.reply

    @property
    def speech_turn(self) -> int:
        """The number that a turn gets whose speech is heard now."""
        return self.next_turn + len(self.waiting)

    @property
    def settled_sample(self) -> int:
        """The user's audio before it belongs to the open utterance whatever comes, so that it can be tokenized."""
        return self.user.settled_sample

    @property
    def opening_sample(self) -> int:
        """Where an utterance would begin whose speech begins now: the end of the one before, or the pre-roll."""
        taking = self.options.turn_taking
        is_manual = taking.mode is EndpointingMode.MANUAL
        lookback_ms = MANUAL_LOOKBACK_MS if is_manual else taking.voice_activity.pre_roll_ms
        lookback_ms = min(lookback_ms, taking.max_utterance_ms // 2)
        onset = self.ears.end_sample if self.ears.run_first is None else self.ears.run_first
        return max(self.user.free_from, self.released_sample, onset - lookback_ms * SAMPLES_PER_MS)

    @property
    def needed_sample(self) -> int:
        """The user's audio before it is dealt with: no utterance that is open, waits or comes has any of it."""
        waiting = (asked.utterance.first_sample for asked in self.waiting if asked.utterance is not None)
        is_silent = self.user.state is UserState.SILENCE
        return min((self.opening_sample if is_silent else self.user.first_sample, *waiting))


def tell(state: State, out: list[Effect], output: Output, turn: int = 0) -> None:
    """Ask for the client to be told, in the present epoch."""
    out.append(Emit(turn, state.epoch, output))


def playout_lead_s(state: State, now_s: float) -> float:
    """How far the reply under way was sent ahead of what was heard; 0 without one."""
    return 0.0 if (live := state.live) is None else live.playout.lead_s(now_s)
