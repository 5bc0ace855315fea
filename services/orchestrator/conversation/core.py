"""The conversation's core: `begin` makes a state, `step` takes an event to the next state and what is to be done.

    client, stream, work ──event──> step(state, event) ──> (state, effects) ──> shell ──> rooms, store, client, clock

It decides what happens next, and nothing else: no IO, no clock, no randomness; the same events give the same effects.
It takes events in any order and at any time without raising: what has no meaning in the present state has no effect.
What is told keeps the order that `ConversationService` of conversation.proto promises.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from services.orchestrator.conversation.barge_in import hear_barge_in, hear_words, review_trial
from services.orchestrator.conversation.effects import Effect
from services.orchestrator.conversation.endpointing import (
    drop_speech,
    on_end_of_turn,
    on_input_ended,
    on_judged,
    on_partial_words,
    on_voice_frame,
)
from services.orchestrator.conversation.events import (
    Acknowledged,
    Closed,
    ClosingSoon,
    Detached,
    EndOfTurn,
    Event,
    InputEnded,
    Interrupt,
    OptionsChanged,
    ReplyAudioMade,
    ReplyFailed,
    ReplyId,
    ReplyMade,
    ReplyStopped,
    ReplyTakenUp,
    ReplyTextMade,
    ReplyTiming,
    Resumed,
    Say,
    SpeculationAllowed,
    TextTurn,
    Timer,
    TimeReached,
    ToolAnswered,
    ToolCallMade,
    Transcribed,
    TurnCommitted,
    TurnJudged,
    VoiceFrame,
)
from services.orchestrator.conversation.history import EndedTurn, PastTurn, context, messages, speech_of
from services.orchestrator.conversation.interruption import (
    detach,
    interrupt,
    on_acknowledged,
    on_closed,
    on_interrupt,
    on_resumed,
    on_taken_up,
    on_time,
)
from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.outputs import GoAway, InterruptionReason, Refused, SessionUpdated
from services.orchestrator.conversation.playout import Playout
from services.orchestrator.conversation.record import Message, Origin, ReplyBasis, ReplyWork
from services.orchestrator.conversation.replies import (
    advance,
    on_audio,
    on_call,
    on_committed,
    on_text,
    on_transcribed,
    on_work_over,
)
from services.orchestrator.conversation.speculation import keep_made, prepare
from services.orchestrator.conversation.state import MAX_WAITING, Asked, Phase, State, StreamState, Turn, User, tell
from services.orchestrator.conversation.tables import UserState
from services.orchestrator.conversation.tools import on_notice_time, on_tool_answered, on_tool_time
from services.orchestrator.conversation.voice_activity import Ears
from services.shared.errors import CancelledRequestError, InputEndedError, TooManyWaitingTurnsError

_ClientEvent: TypeAlias = EndOfTurn | InputEnded | TextTurn | Say | Interrupt | Acknowledged | OptionsChanged
_StreamEvent: TypeAlias = Detached | Resumed | ClosingSoon | Closed
_OtherEvent: TypeAlias = (
    Transcribed | TurnJudged | ReplyTakenUp | ToolAnswered | SpeculationAllowed | TurnCommitted | TimeReached
)
_WorkEvent: TypeAlias = ReplyTextMade | ReplyAudioMade | ToolCallMade | ReplyMade | ReplyFailed | ReplyStopped


@dataclass(frozen=True, slots=True)
class Past:
    """What a replica that takes a session over knows of it.

    Attributes:
        turns: that were kept, in order.
        open_turn: that was under way; it ends as interrupted at the `Resumed` that follows, or goes on.
        epoch: the newest; that `Resumed` begins the next.
        input_sample: of the user's audio that is dealt with.
        at_s: now; where the session's clock was another machine's, the open turn begins here.
        basis: what the open turn's reply goes on from; None where it cannot. The shell has its utterance's tokens.
    """

    turns: tuple[EndedTurn, ...] = ()
    open_turn: PastTurn | None = None
    epoch: int = 1
    input_sample: int = 0
    at_s: float = 0.0
    basis: ReplyBasis | None = None


def begin(
    options: Options,
    *,
    reply_rate_hz: int,
    history: tuple[Message, ...] = (),
    past: Past | None = None,
    seed: int | None = None,
    resumes_replies: bool = False,
) -> State:
    """Begin a conversation, or go on with one of another replica; then the state waits for `Resumed`.

    Args:
        options: in force.
        reply_rate_hz: sample rate at which replies are made.
        history: that the client gave at the session's start.
        past: what is known of a session that is taken over; None begins a new one.
        seed: from which each reply's speech gets its own; None leaves seeds to the shell.
        resumes_replies: the shell can carry out `ResumeReply` after a lost stream; else the turn ends then.
    """
    if past is None:
        return State(options, reply_rate_hz, history, seed=seed, resumes_replies=resumes_replies)
    known = (*past.turns, past.open_turn) if past.open_turn is not None else past.turns
    held = None if past.open_turn is None else _held(past.open_turn, past, reply_rate_hz)
    spoken = None if past.basis is None else past.basis.utterance
    state = State(
        options,
        reply_rate_hz,
        history=(*history, *_said(past.turns)),
        stream=StreamState.DETACHED,
        epoch=past.epoch,
        ears=Ears(end_sample=past.input_sample, speech_end=past.input_sample),
        user=User(utterance=0 if spoken is None else spoken.number, free_from=past.input_sample),
        next_turn=len(known) + 1,
        utterances=() if spoken is None else (spoken.number,),
        request_ids=frozenset(turn.request_id for turn in known if turn.request_id),
        released_sample=past.input_sample,
        released_at_sample=past.input_sample,
        seed=seed,
        resumes_replies=resumes_replies,
    )
    if held is None:
        return state
    read = () if held.asked.origin is Origin.SAY else context(state, held.asked)
    return state._replace(turns=(held._replace(context=read, reads=speech_of(read), options=options),))


def step(state: State, event: Event) -> tuple[State, tuple[Effect, ...]]:
    """Take an event.

    Args:
        state: before it.
        event: not earlier than the one before it.

    Returns:
        The state after it, and what the shell is to do, in this order.
    """
    if state.stream is StreamState.CLOSED and not isinstance(event, TurnCommitted):
        return state, ()
    out: list[Effect] = []
    if isinstance(event, VoiceFrame):
        state = hear_barge_in(on_voice_frame(state, event, out), event.at_s, out)
        if not out:
            return (prepare(state, out), tuple(out)) if state.user.state is UserState.PAUSED else (state, ())
    elif isinstance(event, _ClientEvent):
        state = _from_client(state, event, out)
    elif isinstance(event, _StreamEvent):
        state = _from_stream(state, event, out)
    elif isinstance(event, _WorkEvent):
        state = _from_work(state, event, out)
    else:
        state = _from_elsewhere(state, event, out)
    return advance(review_trial(state, event.at_s, out), event.at_s, out), tuple(out)


def _from_client(state: State, event: _ClientEvent, out: list[Effect]) -> State:
    match event:
        case Acknowledged():
            return on_acknowledged(state, event, out)
        case TextTurn():
            return _on_asked(state, event, Origin.TEXT, out)
        case Say():
            return _on_asked(state, event, Origin.SAY, out)
        case Interrupt():
            return on_interrupt(state, event, out)
        case EndOfTurn():
            return on_end_of_turn(state, event, out)
        case InputEnded():
            return on_input_ended(state, event, out)
        case OptionsChanged():
            tell(state, out, SessionUpdated(event.options))
            return state._replace(options=event.options)


def _from_stream(state: State, event: _StreamEvent, out: list[Effect]) -> State:
    match event:
        case Detached():
            return detach(state, event.at_s, out)
        case Resumed():
            return on_resumed(state, event, out)
        case ClosingSoon():
            tell(state, out, GoAway(event.reason, event.time_left_ms, event.resumable))
            return state
        case Closed():
            return on_closed(state, event, out)


def _from_work(state: State, event: _WorkEvent, out: list[Effect]) -> State:
    match event:
        case ReplyAudioMade():
            return on_audio(keep_made(state, event), event, out)
        case ReplyTextMade():
            return on_text(keep_made(state, event), event, out)
        case ToolCallMade():
            return on_call(keep_made(state, event), event, out)
        case ReplyMade():
            return on_work_over(state, event.at_s, event.reply, work=event.work, error=None, out=out)
        case ReplyFailed():
            return on_work_over(state, event.at_s, event.reply, work=event.work, error=event.error, out=out)
        case ReplyStopped():
            stopped = CancelledRequestError("the work on the reply was stopped")
            return on_work_over(state, event.at_s, event.reply, work=event.work, error=stopped, out=out)


def _from_elsewhere(state: State, event: _OtherEvent, out: list[Effect]) -> State:
    match event:
        case Transcribed():
            heard = on_transcribed if event.is_final else on_partial_words
            return hear_words(heard(state, event, out), event, out)
        case TurnJudged():
            return on_judged(state, event, out)
        case ReplyTakenUp():
            return on_taken_up(state, event, out)
        case ToolAnswered():
            return on_tool_answered(state, event, out)
        case SpeculationAllowed():
            return state._replace(
                ahead=replace(state.ahead, is_allowed=event.is_allowed, is_given_up=event.is_given_up)
            )
        case TurnCommitted():
            return on_committed(state, event, out)
        case TimeReached():
            return _on_time(state, event, out)


def _on_time(state: State, event: TimeReached, out: list[Effect]) -> State:
    match event.timer:
        case Timer.TOOL:
            return on_tool_time(state, event.at_s, out)
        case Timer.NOTICE:
            return on_notice_time(state, event.at_s, out)
    return on_time(state, event, out)


def _on_asked(state: State, event: TextTurn | Say, origin: Origin, out: list[Effect]) -> State:
    """The client asks for a turn: it interrupts, or waits for the reply under way."""
    if event.request_id in state.request_ids:
        return state
    if state.input_ended:
        tell(state, out, Refused(InputEndedError("a turn came after the end of input")))
        return state
    waits = event.timing is ReplyTiming.AFTER_REPLY
    if waits and sum(asked.waits for asked in state.waiting) >= MAX_WAITING:
        tell(state, out, Refused(TooManyWaitingTurnsError(f"{MAX_WAITING} turns wait already for the reply to end")))
        return state
    if origin is Origin.TEXT:
        state = drop_speech(state, out)
    asked = Asked(origin, event.at_s, event.at_s, event.request_id, event.text, waits=waits)
    ids = state.request_ids | {event.request_id} if event.request_id else state.request_ids
    if waits:
        return state._replace(waiting=(*state.waiting, asked), request_ids=ids)
    state = interrupt(state, event.at_s, InterruptionReason.CLIENT_TURN, out)
    return state._replace(waiting=(asked, *state.waiting), request_ids=ids)


def _said(turns: Iterable[EndedTurn]) -> Iterable[Message]:
    return (message for turn in turns for message in messages(turn.user_text, turn.agent_text, turn.tool_exchanges))


def _held(turn: PastTurn, past: Past, reply_rate_hz: int) -> Turn:
    """The turn that another replica had under way: what is known of it is what was saved."""
    asked = Asked(turn.origin, past.at_s, past.at_s, turn.request_id)
    basis = past.basis
    text = turn.user_text if turn.origin is not Origin.SAY or basis is None else basis.words
    spoken = None if basis is None or turn.user_text else basis.utterance
    asked = replace(asked, text=text, utterance=spoken)
    return Turn(
        reply=ReplyId(turn.number, past.epoch),
        asked=asked,
        begun_s=past.at_s,
        playout=Playout(reply_rate_hz),
        phase=Phase.HELD,
        user_text=None if spoken is not None else turn.user_text,
        transcript_asked=spoken is None,
        text="" if basis is None else basis.text,
        has_all_text=basis is not None and basis.is_text_complete,
        seed=None if basis is None else basis.seed,
        is_foreign=basis is not None,
        has_basis=basis is not None,
        work=ReplyWork(),
        agent_text=turn.agent_text,
    )
