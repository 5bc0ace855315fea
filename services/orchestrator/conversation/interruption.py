"""What stops a reply: the client's interruption, a lost stream, a closed session; and what was heard of it then.

    reply audio sent   ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓
    heard              ▓▓▓▓▓▓▓▓▓▓▓▓┊
    Interrupt                      ┊interrupted, epoch + 1     the turn ends with the client's word, or after 500 ms
    Detached                       ┊ ······ Resumed, epoch + 1 the turn ends with what the client says it heard
    Closed                         ┊                           the turn ends at once with what is known

A reply that was cancelled brings nothing more but what it took.
"""

from dataclasses import replace
from typing import Final

from services.orchestrator.conversation.effects import CancelReply, DropUtterance, Effect, SetTimer
from services.orchestrator.conversation.events import (
    Acknowledged,
    Closed,
    Interrupt,
    Playback,
    Resumed,
    Timer,
    TimeReached,
)
from services.orchestrator.conversation.outputs import Interrupted, InterruptionReason
from services.orchestrator.conversation.record import ReplyWork
from services.orchestrator.conversation.replies import (
    ask_transcript,
    heard_text,
    save_heard,
    see_whether_heard,
    settle,
    with_turn,
)
from services.orchestrator.conversation.state import Phase, State, StreamState, Turn, User, tell
from services.orchestrator.conversation.tables import AgentMove, UserState, agent_after

ACKNOWLEDGEMENT_WAIT_S: Final = 0.5


def on_interrupt(state: State, event: Interrupt, out: list[Effect]) -> State:
    """The client stops the reply; without one it does nothing."""
    return interrupt(state, event.at_s, InterruptionReason.CLIENT, out, playback=event.playback)


def interrupt(
    state: State, at_s: float, reason: InterruptionReason, out: list[Effect], *, playback: Playback | None = None
) -> State:
    """Stop the live reply, if there is one, and begin a new epoch.

    Args:
        state: before.
        at_s: now.
        reason: why.
        out: where effects go.
        playback: what the client says it has heard; what it says about another turn says nothing.
    """
    state, turn = _stop(state, at_s, Phase.AWAITING_HEARD, out)
    if turn is None:
        return state
    turn = ask_transcript(turn, out)
    state = replace(state, epoch=state.epoch + 1)
    is_said = playback is not None and playback.turn == turn.number
    if playback is not None and is_said:
        turn = _hear(turn, at_s, playback)
    tell(state, out, Interrupted(reason, turn.heard_samples), turn.number)
    if is_said or turn.playout.sent_samples == 0:
        return with_turn(state, settle(turn, at_s, heard_samples=turn.heard_samples, is_cut=True))
    turn = replace(turn, decide_by_s=at_s + ACKNOWLEDGEMENT_WAIT_S)
    return _await_heard(with_turn(state, turn), out)


def on_acknowledged(state: State, event: Acknowledged, out: list[Effect]) -> State:
    """The client says what it heard of the live reply, or of one that was interrupted."""
    turn = next((turn for turn in state.turns if turn.number == event.playback.turn), None)
    if turn is None or turn.phase in (Phase.HELD, Phase.OVER):
        return state
    state = replace(state, acknowledges=True)
    if turn.phase is Phase.AWAITING_HEARD:
        turn = _hear(turn, event.at_s, event.playback)
        turn = settle(turn, event.at_s, heard_samples=turn.heard_samples, is_cut=True)
        return _await_heard(with_turn(state, turn), out)
    turn = replace(turn, playout=turn.playout.acknowledging(event.at_s, event.playback))
    state = with_turn(state, save_heard(state, turn, event.at_s, out))
    return see_whether_heard(state, event.at_s, out)


def on_time(state: State, event: TimeReached, out: list[Effect]) -> State:
    """A moment has come: the reply was heard by the clock, or the client said nothing about an interrupted one."""
    if event.timer is Timer.PLAYOUT:
        return see_whether_heard(state, event.at_s, out)
    overdue = [turn for turn in state.turns if turn.phase is Phase.AWAITING_HEARD and turn.decide_by_s <= event.at_s]
    for turn in overdue:
        state = with_turn(state, settle(turn, event.at_s, heard_samples=turn.heard_samples, is_cut=True))
    return _await_heard(state, out) if overdue else state


def detach(state: State, at_s: float, out: list[Effect]) -> State:
    """The stream was lost: the live reply stops, and its turn waits for the client's word."""
    if state.stream is not StreamState.ATTACHED:
        return state
    state, turn = _stop(state, at_s, Phase.HELD, out)
    if turn is not None:
        turn = save_heard(state, ask_transcript(turn, out), at_s, out, step_characters=0)
        state = with_turn(state, turn)
    return replace(state, stream=StreamState.DETACHED)


def on_resumed(state: State, event: Resumed, out: list[Effect]) -> State:
    """The client is back, in a new epoch: the turn that waited for it ends with what it heard."""
    if state.stream is StreamState.CLOSED:
        return state
    state = detach(state, event.at_s, out)
    if event.playback is not None:
        state = on_acknowledged(state, Acknowledged(event.at_s, event.playback), out)
    for turn in state.turns:
        if turn.phase is Phase.HELD:
            state = with_turn(state, _resume(turn, event))
    return replace(state, stream=StreamState.ATTACHED, epoch=state.epoch + 1)


def on_closed(state: State, event: Closed, out: list[Effect]) -> State:
    """Nobody listens any more: what is open ends now, with what is known."""
    if state.stream is StreamState.CLOSED:
        return state
    state, _ = _stop(state, event.at_s, Phase.HELD, out)
    for turn in state.turns:
        if turn.phase is not Phase.OVER:
            turn = settle(turn, event.at_s, heard_samples=turn.heard_samples, is_cut=True)
        known = replace(turn, work=turn.work or ReplyWork(), user_text=turn.user_text or "")
        state = with_turn(state, known)
    if state.user.state is not UserState.SILENCE:
        out.append(DropUtterance(state.user.utterance))
    out.append(SetTimer(Timer.ACKNOWLEDGEMENT, None))
    return replace(state, stream=StreamState.CLOSED, user=User(), waiting=())


def _stop(state: State, at_s: float, phase: Phase, out: list[Effect]) -> tuple[State, Turn | None]:
    """Stop the live reply's work and its clock; the turn goes on in another phase with what was heard so far."""
    turn = state.live
    after = agent_after(state.agent, AgentMove.STOP)
    if turn is None or after is None:
        return state, None
    if turn.work is None:
        out.append(CancelReply(turn.reply))
    else:
        out.append(SetTimer(Timer.PLAYOUT, None))
    heard = turn.playout.heard_samples(at_s)
    turn = replace(turn, phase=phase, heard_samples=heard, agent_text=heard_text(turn, heard))
    return with_turn(replace(state, agent=after), turn), turn


def _hear(turn: Turn, at_s: float, playback: Playback) -> Turn:
    """A stopped turn whose client says what it heard."""
    playout = turn.playout.acknowledging(at_s, playback)
    heard = turn.heard_samples if playout.acknowledged_samples is None else playout.acknowledged_samples
    turn = replace(turn, playout=playout)
    return replace(turn, heard_samples=heard, agent_text=heard_text(turn, heard))


def _resume(turn: Turn, event: Resumed) -> Turn:
    """A held turn ends: nothing was heard that the client does not claim."""
    said = event.playback.played_samples if event.playback and event.playback.turn == turn.number else 0
    sent = turn.playout.sent_samples
    heard = max(turn.playout.acknowledged_samples or 0, min(said, sent))
    return settle(turn, event.at_s, heard_samples=heard, is_cut=not (turn.is_sent and heard >= sent))


def _await_heard(state: State, out: list[Effect]) -> State:
    """Wait for the client's word on interrupted turns, if any."""
    moments = [turn.decide_by_s for turn in state.turns if turn.phase is Phase.AWAITING_HEARD]
    out.append(SetTimer(Timer.ACKNOWLEDGEMENT, min(moments, default=None)))
    return state
