"""What stops a reply: the client's interruption, a lost stream, a closed session; and what was heard of it then.

    reply audio sent   ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓
    heard              ▓▓▓▓▓▓▓▓▓▓▓▓┊
    Interrupt                      ┊interrupted, epoch + 1     the turn ends with the client's word, or after 500 ms
    speech                         ┊interrupted, epoch + 1     as well, once it is sure that words were said
    Detached                       ┊ ······ Resumed, epoch + 1 the turn ends with what the client says it heard
    Closed                         ┊                           the turn ends at once with what is known

A reply that was cancelled brings nothing more but what it took. A stopped reply can go on, under a new id, from the
first sample that was not heard: after speech without words, and after a lost stream where the shell can do so. The
shell says whether it can; if not, the turn ends as interrupted.
"""

from typing import Final

from services.orchestrator.conversation.effects import (
    CancelReply,
    DropUtterance,
    Effect,
    ResumeReply,
    SetTimer,
)
from services.orchestrator.conversation.events import (
    Acknowledged,
    Closed,
    Interrupt,
    Playback,
    ReplyId,
    ReplyTakenUp,
    Resumed,
    Timer,
    TimeReached,
)
from services.orchestrator.conversation.outputs import Interrupted, InterruptionReason, ReplyResumed
from services.orchestrator.conversation.playout import Playout
from services.orchestrator.conversation.record import Origin
from services.orchestrator.conversation.replies import (
    ask_transcript,
    heard_text,
    is_text_complete,
    save_heard,
    see_whether_heard,
    settle,
)
from services.orchestrator.conversation.speculation import discard
from services.orchestrator.conversation.state import (
    Ahead,
    Part,
    Phase,
    State,
    StreamState,
    Trial,
    Turn,
    User,
    find_turn,
    tell,
    with_turn,
)
from services.orchestrator.conversation.tables import AgentMove, UserState, agent_after
from services.orchestrator.conversation.tools import ask_again, cancel_calls, running

ACKNOWLEDGEMENT_WAIT_S: Final = 0.5


def on_interrupt(state: State, event: Interrupt, out: list[Effect]) -> State:
    """The client stops the reply; without one it does nothing, and one that speech has stopped does not go on."""
    if state.trial is not None:
        if event.playback is not None:
            state = on_acknowledged(state, Acknowledged(event.at_s, event.playback), out)
        return end_trial(state, event.at_s, out)
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
    state = end_trial(state, at_s, out)
    patience_ms = state.options.turn_taking.barge_in.false_interruption_ms
    is_sound = state.live is not None and state.live.error is None
    may_go_on = reason is InterruptionReason.SPEECH and patience_ms > 0 and is_sound
    phase = Phase.SUSPENDED if may_go_on else Phase.AWAITING_HEARD
    state, turn = _stop(state, at_s, phase, out, may_resume=may_go_on)
    if turn is None:
        return state
    turn = ask_transcript(turn, out)
    state = state._replace(epoch=state.epoch + 1)
    is_said = playback is not None and playback.turn == turn.number
    if playback is not None and is_said:
        turn = _hear(turn, at_s, playback)
    tell(state, out, Interrupted(reason, turn.heard_samples), turn.number)
    turn = turn._replace(decide_by_s=at_s + ACKNOWLEDGEMENT_WAIT_S, has_said_heard=is_said)
    if may_go_on:
        until_s = at_s + patience_ms / 1000
        out.append(SetTimer(Timer.FALSE_INTERRUPTION, until_s))
        return with_turn(state, turn)._replace(trial=Trial(turn.number, state.user.utterance, until_s))
    turn = cancel_calls(state, turn, at_s, out)
    if is_said or turn.playout.sent_samples == 0:
        return with_turn(state, settle(turn, at_s, heard_samples=turn.heard_samples, is_cut=True))
    return _await_heard(with_turn(state, turn), out)


def end_trial(state: State, at_s: float, out: list[Effect]) -> State:
    """The reply that speech has interrupted does not go on: its turn ends as any that was interrupted."""
    trial = state.trial
    if trial is None:
        return state
    out.append(SetTimer(Timer.FALSE_INTERRUPTION, None))
    state = state._replace(trial=None)
    turn = find_turn(state, trial.turn)
    if turn is None or turn.phase is not Phase.SUSPENDED:
        return state
    turn = cancel_calls(state, turn, at_s, out)
    if turn.has_said_heard or turn.playout.sent_samples == 0 or turn.decide_by_s <= at_s:
        return with_turn(state, settle(turn, at_s, heard_samples=turn.heard_samples, is_cut=True))
    return _await_heard(with_turn(state, turn._replace(phase=Phase.AWAITING_HEARD)), out)


def take_up(state: State, turn: Turn, out: list[Effect]) -> State:
    """Go on with a stopped reply from its first sample that was not heard, in the present epoch."""
    first, stopped = turn.heard_samples, turn.reply
    playout = turn.playout.stopped_at(first, turn.playout.characters_at(first))
    reply = ReplyId(turn.number, state.epoch)
    part = turn.part or Part(turn.context, turn.asked.text if turn.asked.origin is Origin.SAY else "", 0, 0)
    out.append(
        ResumeReply(
            reply,
            stopped,
            first,
            turn.text,
            is_text_complete(turn),
            part.context,
            part.words,
            turn.options,
            turn.seed,
            part.first_sample,
            part.first_character,
        )
    )
    turn = turn._replace(
        reply=reply,
        begun_sample=state.ears.end_sample,
        phase=Phase.REPLYING,
        playout=playout,
        is_taking_up=True,
        is_part_over=False,
        is_sent=False,
        earlier=turn.earlier if turn.work is not None else (*turn.earlier, stopped),
        spent=turn.work or turn.spent,
        work=None,
    )
    after = agent_after(state.agent, AgentMove.RESUME) or state.agent
    return running(with_turn(state, turn)._replace(agent=after), turn)


def on_taken_up(state: State, event: ReplyTakenUp, out: list[Effect]) -> State:
    """The shell can go on with a stopped reply, or it cannot."""
    turn = next((turn for turn in state.turns if event.reply in (turn.reply, *turn.earlier)), None)
    if turn is None or (turn.reply == event.reply and turn.work is not None):
        return state
    if turn is not state.live or turn.reply != event.reply:
        return state if event.can_go_on else with_turn(state, _letting_go(turn, event.reply))
    if not turn.is_taking_up:
        return state
    if not event.can_go_on:
        return give_up(state, turn, event.at_s, out)
    playout = turn.playout
    spoken = max(playout.spoken_characters, min(event.spoken_characters, len(turn.text)))
    if playout.ends:
        playout = playout._replace(characters=(*playout.characters[:-1], spoken))
    turn = turn._replace(is_taking_up=False, playout=playout)
    asked = turn.asked
    resumed = ReplyResumed(playout.sent_samples, turn.text, asked.origin, asked.request_id)
    tell(state, out, resumed, turn.number)
    return with_turn(state, ask_transcript(turn, out))


def give_up(state: State, turn: Turn, at_s: float, out: list[Effect]) -> State:
    """A stopped reply that was to go on cannot: its turn ends with what was heard."""
    turn = cancel_calls(state, turn._replace(is_taking_up=False, work=turn.spent), at_s, out)
    after = agent_after(state.agent, AgentMove.STOP) or state.agent
    if turn.is_foreign:
        turn = turn._replace(playout=Playout(turn.playout.rate_hz))
    turn = settle(turn, at_s, heard_samples=turn.playout.sent_samples, is_cut=True)
    return with_turn(state._replace(agent=after), turn)


def on_acknowledged(state: State, event: Acknowledged, out: list[Effect]) -> State:
    """The client says what it heard of the live reply, or of one that was interrupted."""
    turn = next((turn for turn in state.turns if turn.number == event.playback.turn), None)
    if turn is None or turn.phase in (Phase.HELD, Phase.OVER):
        return state
    state = state._replace(acknowledges=True)
    if turn.phase is Phase.SUSPENDED:
        return with_turn(state, _hear(turn, event.at_s, event.playback)._replace(has_said_heard=True))
    if turn.phase is Phase.AWAITING_HEARD:
        turn = _hear(turn, event.at_s, event.playback)
        turn = settle(turn, event.at_s, heard_samples=turn.heard_samples, is_cut=True)
        return _await_heard(with_turn(state, turn), out)
    turn = turn._replace(playout=turn.playout.acknowledging(event.at_s, event.playback))
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
    state = end_trial(discard(state, out), at_s, out)
    state, turn = _stop(state, at_s, Phase.HELD, out, may_resume=state.resumes_replies)
    if turn is not None:
        turn = save_heard(state, ask_transcript(turn, out), at_s, out, step_characters=0)
        state = with_turn(state, turn)
    return state._replace(stream=StreamState.DETACHED)


def on_resumed(state: State, event: Resumed, out: list[Effect]) -> State:
    """The client is back, in a new epoch: the turn that waited for it goes on, or ends with what it heard."""
    if state.stream is StreamState.CLOSED:
        return state
    state = detach(state._replace(epoch=state.epoch + 1), event.at_s, out)
    if event.playback is not None:
        state = on_acknowledged(state, Acknowledged(event.at_s, event.playback), out)
    state = state._replace(stream=StreamState.ATTACHED)
    held = next((turn for turn in state.turns if turn.phase is Phase.HELD), None)
    return state if held is None else _end_hold(state, held, event, out)


def on_closed(state: State, event: Closed, out: list[Effect]) -> State:
    """Nobody listens any more: what is open ends now, with what is known."""
    if state.stream is StreamState.CLOSED:
        return state
    state, _ = _stop(discard(state, out), event.at_s, Phase.HELD, out)
    for turn in state.turns:
        if turn.phase is not Phase.OVER:
            turn = cancel_calls(state, turn, event.at_s, out)
            turn = settle(turn, event.at_s, heard_samples=turn.heard_samples, is_cut=True)
        known = turn._replace(work=turn.work or turn.spent, user_text=turn.user_text or "", earlier=())
        state = with_turn(state, known)
    if state.user.state is not UserState.SILENCE:
        out.append(DropUtterance(state.user.utterance))
    out.append(SetTimer(Timer.ACKNOWLEDGEMENT, None))
    return state._replace(stream=StreamState.CLOSED, user=User(), waiting=(), ahead=Ahead(), trial=None)


def _stop(
    state: State, at_s: float, phase: Phase, out: list[Effect], *, may_resume: bool = False
) -> tuple[State, Turn | None]:
    """Stop the live reply's work and its clock; the turn goes on in another phase with what was heard so far."""
    turn = state.live
    after = agent_after(state.agent, AgentMove.STOP)
    if turn is None or after is None:
        return state, None
    if turn.is_part_over:
        turn = turn._replace(work=turn.spent)
    elif turn.work is None:
        out.append(CancelReply(turn.reply, may_resume))
    else:
        out.append(SetTimer(Timer.PLAYOUT, None))
    heard = turn.playout.heard_samples(at_s)
    turn = turn._replace(
        phase=phase,
        is_taking_up=False,
        has_said_heard=False,
        heard_samples=heard,
        agent_text=heard_text(turn, heard),
    )
    return with_turn(state._replace(agent=after), turn), turn


def _letting_go(turn: Turn, reply: ReplyId) -> Turn:
    """A stopped turn whose work on going on never began."""
    if turn.reply == reply:
        return turn._replace(work=turn.spent)
    return turn._replace(earlier=tuple(old for old in turn.earlier if old != reply))


def _hear(turn: Turn, at_s: float, playback: Playback) -> Turn:
    """A stopped turn whose client says what it heard."""
    playout = turn.playout.acknowledging(at_s, playback)
    heard = turn.heard_samples if playout.acknowledged_samples is None else playout.acknowledged_samples
    turn = turn._replace(playout=playout)
    return turn._replace(heard_samples=heard, agent_text=heard_text(turn, heard))


def _end_hold(state: State, turn: Turn, event: Resumed, out: list[Effect]) -> State:
    """A held turn goes on or ends: nothing was heard that the client does not claim."""
    turn = ask_transcript(turn, out)
    said = event.playback.played_samples if event.playback and event.playback.turn == turn.number else 0
    sent = turn.playout.sent_samples
    heard = max(turn.playout.acknowledged_samples or 0, said if turn.is_foreign else min(said, sent))
    is_heard = turn.is_sent and heard >= sent
    can_go_on = state.resumes_replies and turn.has_basis and turn.error is None
    if is_heard or not can_go_on:
        turn = cancel_calls(state, turn, event.at_s, out)
        return with_turn(state, settle(turn, event.at_s, heard_samples=heard, is_cut=not is_heard))
    ask_again(state, turn, event.at_s, out)
    return take_up(state, turn._replace(heard_samples=heard), out)


def _await_heard(state: State, out: list[Effect]) -> State:
    """Wait for the client's word on interrupted turns, if any."""
    moments = [turn.decide_by_s for turn in state.turns if turn.phase is Phase.AWAITING_HEARD]
    out.append(SetTimer(Timer.ACKNOWLEDGEMENT, min(moments, default=None)))
    return state
