"""Everything the core knows of a conversation: one value, replaced by `step` and never changed.

What changes with every frame of audio is a named tuple and no dataclass: one is copied dozens of times a second for
each session, and `_replace` costs a sixth of what `dataclasses.replace` does.

A turn that the agent has taken up stands in `turns` until the store has it; what waits to be taken up has no number
yet. Only the last of `turns` can be replying.

    waiting ──START──> REPLYING ──heard──────────────────────────> OVER ──> CommitTurn ──> (history)
                       ^  ├── interrupted ──> AWAITING_HEARD ──────^  acknowledged, or 500 ms later
                       ├──┼── by speech ────> SUSPENDED ───────────^  words were said: as AWAITING_HEARD
                       └──┴── stream lost ──> HELD ────────────────^  resumed, or closed
                     RESUME   no word was said, or the client is back
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from services.orchestrator.conversation.effects import Effect, Emit
from services.orchestrator.conversation.events import ReplyAudioMade, ReplyId, ReplyTextMade, ToolCallMade
from services.orchestrator.conversation.options import EndpointingMode, Options, Tool
from services.orchestrator.conversation.outputs import Output
from services.orchestrator.conversation.playout import Playout
from services.orchestrator.conversation.record import (
    FirstAudioBreakdown,
    Message,
    Origin,
    Outcome,
    ReplyWork,
    SpeculationWork,
    ToolCall,
    ToolOutcome,
    Utterance,
)
from services.orchestrator.conversation.tables import AgentState, UserState
from services.orchestrator.conversation.voice_activity import SAMPLES_PER_MS, Ears
from services.shared.errors import StepAudioError

MANUAL_LOOKBACK_MS: Final = 4000
"""Silence before the first speech that a manual utterance still has: below the 5 s after which audio is released."""

MAX_WAITING: Final = 8
"""Turns asked for by the client that wait, at most; and as many spoken ones."""


NO_WORK: Final = ReplyWork()
NO_SPECULATION: Final = SpeculationWork()


class StreamState(StrEnum):
    """Whether there is a client."""

    ATTACHED = "attached"
    DETACHED = "detached"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Clues:
    """What is known of the open utterance beside its audio. A clue about speech before the newest is none.

    Attributes:
        onset: where the newest stretch of speech began.
        probability: that the user has finished, by the turn model.
        judged_sample: the model heard the audio before it.
        words: what was said.
        words_sample: the words are of the audio before it.
    """

    onset: int = 0
    probability: float = 0.0
    judged_sample: int = 0
    words: str = ""
    words_sample: int = 0


NO_CLUES: Final = Clues()


class User(NamedTuple):
    """What the user does, and the utterance that is open unless the state is SILENCE.

    Attributes:
        state: by the table of the user.
        utterance: number of the newest utterance.
        first_sample: of the open one.
        settled_sample: audio of the open one before it belongs to it whatever comes.
        started_s: when the open one began.
        free_from: an utterance begins here at the earliest: the end of the one before.
        clues: to whether the user has finished.
        has_paused: within the open one.
    """

    state: UserState = UserState.SILENCE
    utterance: int = 0
    first_sample: int = 0
    settled_sample: int = 0
    started_s: float = 0.0
    free_from: int = 0
    clues: Clues = NO_CLUES
    has_paused: bool = False


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
    SUSPENDED = "suspended"
    HELD = "held"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function in a turn.

    Attributes:
        call: what was called.
        tool: the function; None where there is none, so that the call was told to nobody but the model.
        deadline_s: an answer that comes later does not count.
        outcome: how it ended; None while it is waited for.
        text: what the model is told of it.
        at_character: length of the reply's text when it was made.
        read_character: length of the reply's text when a later part was started with it; None before.
        asked_s, ended_s: when it was made, and when it was over.
    """

    call: ToolCall
    tool: Tool | None
    deadline_s: float
    outcome: ToolOutcome | None = None
    text: str = ""
    at_character: int = 0
    read_character: int | None = None
    asked_s: float = 0.0
    ended_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """What a later piece of a reply was started with; see `StartReply`."""

    context: tuple[Message, ...]
    words: str
    first_sample: int
    first_character: int


@dataclass(frozen=True, slots=True)
class Speculation:
    """A reply that is prepared at a pause: what came of it waits here.

    Attributes:
        reply: under which its work reports.
        utterance: that it answers.
        read: what its chat model reads.
        options: it was begun with.
        made: what its work has reported, in this order.
        work: what it took, once it is complete.
    """

    reply: ReplyId
    utterance: int
    read: tuple[Message, ...]
    options: Options
    made: tuple[ReplyTextMade | ReplyAudioMade | ToolCallMade, ...] = ()
    work: ReplyWork | None = None

    @property
    def end_sample(self) -> int:
        """Position after the last sample that was made."""
        return max((event.end_sample for event in self.made if isinstance(event, ReplyAudioMade)), default=0)


@dataclass(frozen=True, slots=True)
class Ahead:
    """Preparing replies ahead.

    Attributes:
        is_allowed: by the tenant's budget, and the slack of the rooms.
        is_given_up: it is not allowed because the rooms have fallen behind.
        speculation: the one under way.
        parts: replies that were begun for the next turn in this and earlier epochs.
        utterance: the last one that a reply was prepared for.
        count: how often.
        tried_sample: end of the speech before the last pause at which one was, or was not allowed to be.
        discarded: replies that were thrown away and have not let go yet.
        tally: what is to be counted to the next turn.
    """

    is_allowed: bool = True
    is_given_up: bool = False
    speculation: Speculation | None = None
    parts: int = 0
    utterance: int = 0
    count: int = 0
    tried_sample: int = 0
    discarded: tuple[ReplyId, ...] = ()
    tally: SpeculationWork = NO_SPECULATION


@dataclass(frozen=True, slots=True)
class Trial:
    """Speech has interrupted a reply, and it is not known yet whether words were said.

    Attributes:
        turn: number of the turn that was interrupted.
        utterance: that interrupted it.
        until_s: the turn goes on at this moment if no word was said.
        wordless_sample: no word was said before it.
        has_words: words were said.
    """

    turn: int
    utterance: int
    until_s: float
    wordless_sample: int = 0
    has_words: bool = False


class Turn(NamedTuple):
    """A turn that has been taken up and is not kept yet.

    Attributes:
        reply: its number, and the epoch in which its reply was begun.
        asked: what it answers.
        begun_s: when its reply was begun.
        playout: its audio.
        context: what its chat model read at the start.
        reads: utterances that it has as speech.
        options: in force for it.
        seed: of its speech.
        begun_sample: how far the user had been heard when it was begun.
        phase: where it is.
        user_text: the user's words; None until a transcript has come.
        transcript_asked: whether it was asked for.
        text: of the reply, as far as it was made.
        calls: of functions.
        part: the piece of the reply that is under way, if it is not the first.
        notices: how often the agent said that it waits for calls, since the last answers.
        has_all_text: no more text comes, but after calls of functions.
        is_foreign: another replica began it: what was sent of it is not known.
        has_basis: enough is known of it to go on with its reply.
        is_part_over: the work is done up to the calls, and what follows them has not begun.
        is_taking_up: it was stopped and is to go on, and it is not known yet whether it can.
        has_said_heard: the client has said what it heard since the reply was stopped.
        earlier: work on the reply that was stopped before it went on, and has not let go yet.
        spent: what the reply took in parts that are over.
        work: what the reply took; None while its work goes on.
        speculation: what was prepared for it.
        error: why it could not be completed.
        first_audio: where the silence before it went.
        decide_by_s: an interrupted turn waits for the client's word until then.
        is_sent: all of the reply was sent.
        saved_characters: length of what a resume elsewhere would know of the text heard.
        saved_text: length of what it would know of the text made.
        outcome, heard_samples, agent_text, ended_s: how it ended; they hold once it is over.
        is_committing: the store has been asked to keep it.
    """

    reply: ReplyId
    asked: Asked
    begun_s: float
    playout: Playout
    context: tuple[Message, ...] = ()
    reads: tuple[int, ...] = ()
    options: Options = Options()
    seed: int | None = None
    begun_sample: int = 0
    phase: Phase = Phase.REPLYING
    user_text: str | None = None
    transcript_asked: bool = False
    text: str = ""
    calls: tuple[Call, ...] = ()
    part: Part | None = None
    notices: int = 0
    has_all_text: bool = False
    is_foreign: bool = False
    has_basis: bool = True
    is_part_over: bool = False
    is_taking_up: bool = False
    has_said_heard: bool = False
    earlier: tuple[ReplyId, ...] = ()
    spent: ReplyWork = NO_WORK
    work: ReplyWork | None = None
    speculation: SpeculationWork = NO_SPECULATION
    error: StepAudioError | None = None
    first_audio: FirstAudioBreakdown | None = None
    decide_by_s: float = 0.0
    is_sent: bool = False
    saved_characters: int = 0
    saved_text: int = 0
    outcome: Outcome = Outcome.COMPLETED
    heard_samples: int = 0
    agent_text: str = ""
    ended_s: float = 0.0
    is_committing: bool = False

    @property
    def number(self) -> int:
        """The turn's number."""
        return self.reply.turn

    @property
    def waits_for_tools(self) -> bool:
        """Calls of functions have not been answered."""
        return any(call.outcome is None for call in self.calls)


class State(NamedTuple):
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
        ahead: replies that are prepared.
        trial: of an interruption by speech.
        pauses_ms: that this caller made within turns, newest last.
        preparations_ms: what the newest replies took from being begun to their first audio.
        call_ids: of calls of functions.
        seed: from which the seeds of replies are made; None leaves them to the shell.
        resumes_replies: the shell can go on with a reply after a lost stream.
    """

    options: Options
    reply_rate_hz: int
    history: tuple[Message, ...] = ()
    stream: StreamState = StreamState.ATTACHED
    epoch: int = 1
    ears: Ears = Ears()
    user: User = User()
    agent: AgentState = AgentState.IDLE
    next_turn: int = 1
    waiting: tuple[Asked, ...] = ()
    turns: tuple[Turn, ...] = ()
    utterances: tuple[int, ...] = ()
    request_ids: frozenset[str] = frozenset()
    acknowledges: bool = False
    input_ended: bool = False
    released_sample: int = 0
    released_at_sample: int = 0
    has_ended: bool = False
    ahead: Ahead = Ahead()
    trial: Trial | None = None
    pauses_ms: tuple[int, ...] = ()
    preparations_ms: tuple[int, ...] = ()
    call_ids: frozenset[str] = frozenset()
    seed: int | None = None
    resumes_replies: bool = False

    @property
    def live(self) -> Turn | None:
        """The turn whose reply is under way: made, sent or heard."""
        return self.turns[-1] if self.agent in (AgentState.REPLYING, AgentState.TOOL_RUNNING) else None

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


def with_turn(state: State, turn: Turn) -> State:
    """The state with a turn that has changed."""
    return state._replace(turns=tuple(turn if old.number == turn.number else old for old in state.turns))


def working_turn(state: State, reply: ReplyId) -> Turn | None:
    """The live turn, if this is its reply and more may come of it."""
    live = state.live
    if live is None or live.reply != reply or live.work is not None:
        return None
    return None if live.is_part_over or live.is_taking_up else live


def find_turn(state: State, number: int) -> Turn | None:
    """A turn that is not kept yet."""
    return next((turn for turn in state.turns if turn.number == number), None)


def playout_lead_s(state: State, now_s: float) -> float:
    """How far the reply under way was sent, or prepared, ahead of what was heard; 0 without one."""
    if state.ahead.speculation is not None:
        return state.ahead.speculation.end_sample / state.reply_rate_hz
    return 0.0 if (live := state.live) is None else live.playout.lead_s(now_s)


def playout_slack_s(state: State, now_s: float) -> float:
    """The same, before a listener who hears no faster than in real time."""
    live = state.live
    if live is None or state.ahead.speculation is not None:
        return playout_lead_s(state, now_s)
    return live.playout.slack_s(now_s)
