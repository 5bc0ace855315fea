"""A turn from being taken up to being kept: its reply, its transcript, its record.

    StartReply ReplyStarted   ReplyText ReplyAudio …            ReplyEnded          heard        CommitTurn  TurnEnded
    ├───────────────────────────┴───────────────────────────────────┴─────────────────┤             ┤          ┤
                                        └ Transcribe, once it delays no first audio   └ next reply

The next reply starts when this one was heard; one that was prepared is committed, and all that came of it is sent at
once. A turn is kept when its reply is over, its work has let go, and a spoken
one's transcript has come; turns are kept one after another, so that `turn_ended` comes in their order.
"""

from dataclasses import replace
from typing import Final

from services.orchestrator.conversation.effects import (
    CommitReply,
    CommitTurn,
    DropUtterance,
    Effect,
    EndStream,
    SaveOpenTurn,
    SetTimer,
    StartReply,
    Transcribe,
)
from services.orchestrator.conversation.endpointing import release_audio
from services.orchestrator.conversation.events import (
    ReplyAudioMade,
    ReplyId,
    ReplyTextMade,
    Timer,
    ToolCallMade,
    Transcribed,
    TurnCommitted,
)
from services.orchestrator.conversation.history import context, exchanges, messages, speech_of
from services.orchestrator.conversation.outputs import (
    ReplyAudio,
    ReplyEnded,
    ReplyStarted,
    ReplyText,
    Transcript,
    TurnEnded,
)
from services.orchestrator.conversation.playout import Playout, whole_words
from services.orchestrator.conversation.record import (
    FirstAudioBreakdown,
    FirstAudioMarks,
    Message,
    Origin,
    Outcome,
    ReplyBasis,
    ReplyWork,
    RoomWork,
    TurnMetrics,
    TurnRecord,
)
from services.orchestrator.conversation.speculation import (
    committed,
    discard,
    learn_preparation,
    next_turn_ahead,
    prepare,
    prepared_work_over,
    saved_ms,
    seed_of,
)
from services.orchestrator.conversation.state import (
    Asked,
    Phase,
    Speculation,
    State,
    StreamState,
    Turn,
    tell,
    with_turn,
    working_turn,
)
from services.orchestrator.conversation.tables import AgentMove, UserState, agent_after
from services.orchestrator.conversation.tools import (
    await_calls,
    calls_unread,
    cancel_calls,
    go_on,
    on_tool_call,
    running,
)
from services.orchestrator.conversation.voice_activity import SAMPLES_PER_MS
from services.shared.errors import StepAudioError

_SAVED_STEP_CHARACTERS: Final = 40
"""About a clause: what was heard is saved in steps of it, for a resume elsewhere."""


def advance(state: State, at_s: float, out: list[Effect]) -> State:
    """Do what has become possible: go on after calls, answer or prepare the next turn, keep one, end the stream."""
    state = go_on(state, out)
    state = _start_next(state, at_s, out)
    state = prepare(state, out)
    state = _forget_speech(state, out)
    state = _commit_next(state, out)
    is_done = not state.turns and not state.waiting and state.user.state is UserState.SILENCE
    if not is_done or state.has_ended:
        return state
    if state.input_ended and state.stream is StreamState.ATTACHED:
        out.append(EndStream())
        return state._replace(has_ended=True)
    return state._replace(has_ended=state.stream is StreamState.CLOSED)


def on_text(state: State, event: ReplyTextMade, out: list[Effect]) -> State:
    """The live reply has more text."""
    turn = working_turn(state, event.reply)
    if turn is None:
        return state
    tell(state, out, ReplyText(event.text), turn.number)
    return with_turn(state, turn._replace(text=turn.text + event.text))


def on_audio(state: State, event: ReplyAudioMade, out: list[Effect]) -> State:
    """The live reply has more samples. What does not follow the samples before is not sent."""
    turn = working_turn(state, event.reply)
    if turn is None or event.first_sample != turn.playout.sent_samples or event.end_sample <= event.first_sample:
        return state
    is_first = turn.playout.sent_samples == 0
    spoken = max(turn.playout.spoken_characters, min(event.spoken_characters, len(turn.text)))
    if state.resumes_replies and spoken > turn.saved_text:
        turn = save_heard(state, turn, event.at_s, out, step_characters=0)
    tell(state, out, ReplyAudio(event.first_sample, event.end_sample, spoken, event.samples), turn.number)
    turn = turn._replace(playout=turn.playout.sending(event.at_s, event.end_sample, spoken))
    if is_first and event.marks is not None:
        state = learn_preparation(state, event.marks)
        turn = turn._replace(first_audio=_breakdown(turn, event.marks, event.at_s))
        if turn.speculation.committed:
            saved = saved_ms(event.marks, turn.begun_s)
            turn = turn._replace(speculation=replace(turn.speculation, saved_ms=saved))
    turn = ask_transcript(turn, out)
    return with_turn(state, save_heard(state, turn, event.at_s, out))


def on_call(state: State, event: ToolCallMade, out: list[Effect]) -> State:
    """The live reply calls a function.

    From now on another replica cannot go on with the reply: it would make the call again, and a call is made once.
    """
    made: list[Effect] = []
    state = on_tool_call(state, event, made)
    turn = state.live
    if turn is not None and made and state.resumes_replies:
        state = with_turn(state, save_heard(state, turn, event.at_s, out, step_characters=0))
    out.extend(made)
    return state


def on_work_over(
    state: State, at_s: float, reply: ReplyId, *, work: ReplyWork, error: StepAudioError | None, out: list[Effect]
) -> State:
    """No more comes from a reply's work: all is made, it failed, or it was stopped."""
    state = prepared_work_over(state, reply, work, out, failed=error is not None)
    turn = next((turn for turn in state.turns if reply in (turn.reply, *turn.earlier)), None)
    if turn is None or (turn.reply == reply and (turn.work is not None or turn.is_part_over)):
        return state
    total = _both(turn.spent, work)
    if turn.reply != reply:
        known = None if turn.work is None else _both(turn.work, work)
        earlier = tuple(old for old in turn.earlier if old != reply)
        return with_turn(state, turn._replace(spent=total, work=known, earlier=earlier))
    if turn.phase is not Phase.REPLYING:
        return with_turn(state, turn._replace(spent=total, work=total))
    if error is None and calls_unread(turn):
        turn = turn._replace(spent=total, is_part_over=True, has_all_text=True)
        await_calls(state, turn, at_s, out)
        return with_turn(state, turn)
    turn = cancel_calls(state, turn._replace(spent=total, work=total, has_all_text=error is None), at_s, out)
    if turn.is_taking_up:
        return give_up_taking(state, turn, at_s, error)
    state = running(state, turn)
    tell(state, out, ReplyEnded(turn.playout.sent_samples, turn.text), turn.number)
    state = with_turn(state, ask_transcript(turn._replace(error=error, is_sent=True), out))
    return see_whether_heard(state, at_s, out)


def on_transcribed(state: State, event: Transcribed, out: list[Effect]) -> State:
    """The user's words have come."""
    for turn in state.turns:
        spoken = turn.asked.utterance
        if event.is_final and spoken and spoken.number == event.utterance and turn.user_text is None:
            said = Transcript(event.text, True, spoken.first_sample, spoken.end_sample)
            tell(state, out, said, turn.number)
            turn = turn._replace(user_text=event.text)
            if turn.phase is not Phase.OVER:
                turn = save_heard(state, turn, event.at_s, out, step_characters=0)
            return with_turn(state, turn)
    return state


def on_committed(state: State, event: TurnCommitted, out: list[Effect]) -> State:
    """The store has the oldest turn: it is history now."""
    turn = state.turns[0] if state.turns else None
    if turn is None or turn.number != event.turn or not turn.is_committing:
        return state
    tell(state, out, TurnEnded(_record(turn), turn.heard_samples), turn.number)
    history = (*state.history, *messages(turn.user_text or "", turn.agent_text, exchanges(turn.calls)))
    return release_audio(state._replace(turns=state.turns[1:], history=history), out)


def see_whether_heard(state: State, at_s: float, out: list[Effect]) -> State:
    """End the live turn if all of its reply was sent and heard; else ask to be told when it will have been."""
    turn = state.live
    if turn is None or turn.work is None:
        return state
    if turn.playout.heard_samples(at_s) < turn.playout.sent_samples:
        out.append(SetTimer(Timer.PLAYOUT, turn.playout.heard_by_s))
        return state
    after = agent_after(state.agent, AgentMove.HEARD) or state.agent
    acknowledges = state.acknowledges and not turn.playout.is_unanswered(at_s)
    state = state._replace(agent=after, acknowledges=acknowledges)
    return with_turn(state, settle(turn, at_s, heard_samples=turn.playout.sent_samples, is_cut=False))


def settle(turn: Turn, at_s: float, *, heard_samples: int, is_cut: bool) -> Turn:
    """A turn whose reply is over.

    Args:
        turn: the turn before.
        at_s: now.
        heard_samples: of the reply.
        is_cut: it was not heard to its end.
    """
    outcome = Outcome.INTERRUPTED if is_cut else Outcome.COMPLETED
    if turn.error is not None:
        outcome = Outcome.FAILED
    text = turn.text if outcome is Outcome.COMPLETED else heard_text(turn, heard_samples)
    return turn._replace(phase=Phase.OVER, outcome=outcome, heard_samples=heard_samples, agent_text=text, ended_s=at_s)


def heard_text(turn: Turn, heard_samples: int) -> str:
    """The words of a reply that were heard with so many samples; of one that sent none, what is known already."""
    if turn.playout.sent_samples == 0:
        return turn.agent_text
    return whole_words(turn.text, turn.playout.characters_at(heard_samples))


def save_heard(
    state: State, turn: Turn, at_s: float, out: list[Effect], *, step_characters: int = _SAVED_STEP_CHARACTERS
) -> Turn:
    """Save the turn for a resume elsewhere if more was heard of it by a clause or so."""
    heard = turn.agent_text
    if turn.phase is Phase.REPLYING:
        heard = heard_text(turn, turn.playout.heard_samples(at_s))
    if len(heard) - turn.saved_characters < step_characters:
        return turn
    asked = turn.asked
    out.append(
        SaveOpenTurn(
            number=turn.number,
            epoch=state.epoch,
            origin=asked.origin,
            request_id=asked.request_id,
            user_text=turn.user_text or "",
            agent_text=heard,
            basis=_basis(turn) if state.resumes_replies and not turn.calls else None,
        )
    )
    return turn._replace(saved_characters=len(heard), saved_text=len(turn.text))


def is_text_complete(turn: Turn) -> bool:
    """Whether no more text of the reply comes, but after calls of functions."""
    return turn.has_all_text or calls_unread(turn)


def ask_transcript(turn: Turn, out: list[Effect]) -> Turn:
    """Ask once for the words of a spoken turn."""
    if turn.asked.utterance is None or turn.transcript_asked:
        return turn
    out.append(Transcribe(turn.asked.utterance.number))
    return turn._replace(transcript_asked=True)


def give_up_taking(state: State, turn: Turn, at_s: float, error: StepAudioError | None) -> State:
    """A reply that was to go on has failed before it did; the client was told of nothing that is to be ended."""
    after = agent_after(state.agent, AgentMove.STOP) or state.agent
    turn = turn._replace(is_taking_up=False, error=error)
    turn = settle(turn, at_s, heard_samples=turn.playout.sent_samples, is_cut=True)
    return with_turn(state._replace(agent=after), turn)


def _start_next(state: State, at_s: float, out: list[Effect]) -> State:
    """Answer the turn that has waited longest, if the agent is free and somebody listens."""
    if agent_after(state.agent, AgentMove.START) is None or not state.waiting or state.trial is not None:
        return state
    if state.stream is not StreamState.ATTACHED:
        return state
    asked = state.waiting[0]
    is_say = asked.origin is Origin.SAY
    read = () if is_say else context(state, asked)
    prepared = committed(state, asked, read)
    if prepared is None:
        state = discard(state, out)
    turn = _new_turn(state, asked, at_s, read, prepared)
    if prepared is None:
        out.append(StartReply(turn.reply, read, asked.text if is_say else "", state.options, seed=turn.seed))
    else:
        out.append(CommitReply(turn.reply))
    tell(state, out, ReplyStarted(asked.origin, asked.request_id), turn.number)
    turn = save_heard(state, turn, at_s, out, step_characters=0)
    state = state._replace(
        agent=agent_after(state.agent, AgentMove.START) or state.agent,
        next_turn=state.next_turn + 1,
        waiting=state.waiting[1:],
        turns=(*state.turns, turn),
        ahead=next_turn_ahead(state.ahead),
    )
    return state if prepared is None else _send_prepared(state, prepared, at_s, out)


def _new_turn(state: State, asked: Asked, at_s: float, read: tuple[Message, ...], prepared: Speculation | None) -> Turn:
    tally = state.ahead.tally
    reply = ReplyId(state.next_turn, state.epoch, state.ahead.parts)
    if prepared is not None:
        reply, tally = prepared.reply, replace(tally, committed=1)
    is_say = asked.origin is Origin.SAY
    return Turn(
        reply=reply,
        asked=asked,
        begun_s=at_s,
        playout=Playout(state.reply_rate_hz, acknowledged_samples=0 if state.acknowledges else None),
        context=read,
        reads=speech_of(read),
        options=state.options,
        seed=seed_of(state, state.next_turn),
        begun_sample=state.ears.end_sample,
        user_text=None if asked.utterance is not None else "" if is_say else asked.text,
        speculation=tally,
    )


def _send_prepared(state: State, prepared: Speculation, at_s: float, out: list[Effect]) -> State:
    """What was made of a prepared reply is the turn's now."""
    for event in prepared.made:
        match event:
            case ReplyTextMade():
                state = on_text(state, replace(event, at_s=at_s), out)
            case ReplyAudioMade():
                state = on_audio(state, replace(event, at_s=at_s), out)
            case ToolCallMade():
                state = on_call(state, replace(event, at_s=at_s), out)
    if prepared.work is None:
        return state
    state = on_work_over(state, at_s, prepared.reply, work=prepared.work, error=None, out=out)
    return go_on(state, out)


def _forget_speech(state: State, out: list[Effect]) -> State:
    """Let the tokens of utterances go that nobody reads any more."""
    if not state.utterances:
        return state
    speculation = state.ahead.speculation
    needed = {asked.utterance.number for asked in state.waiting if asked.utterance is not None}
    if speculation is not None:
        needed.update(speech_of(speculation.read))
    for turn in state.turns:
        if turn.work is None or turn.phase in (Phase.SUSPENDED, Phase.HELD):
            needed.update(turn.reads)
        if turn.asked.utterance is not None and turn.user_text is None:
            needed.add(turn.asked.utterance.number)
    out.extend(DropUtterance(number) for number in state.utterances if number not in needed)
    return state._replace(utterances=tuple(number for number in state.utterances if number in needed))


def _commit_next(state: State, out: list[Effect]) -> State:
    """Have the oldest turn kept, once everything about it is known."""
    turn = state.turns[0] if state.turns else None
    if turn is None or turn.is_committing or turn.phase is not Phase.OVER:
        return state
    if turn.work is None or turn.earlier or turn.user_text is None:
        return state
    if any(reply.turn == turn.number for reply in state.ahead.discarded):
        return state
    out.append(CommitTurn(_record(turn)))
    return with_turn(state, turn._replace(is_committing=True))


def _breakdown(turn: Turn, marks: FirstAudioMarks, at_s: float) -> FirstAudioBreakdown:
    """Where the silence before the first samples went; the orchestrator's part is what no room took.

    What the rooms did for a prepared reply before the turn had ended took none of the silence.
    """
    since_s = turn.begun_s if turn.speculation.committed else marks.asked_s
    stages_s = (marks.asked_s, marks.tokens_s, marks.clause_s, marks.speech_tokens_s, marks.audio_s)
    asked_s, tokens_s, clause_s, speech_tokens_s, audio_s = (max(moment_s, since_s) for moment_s in stages_s)
    endpointing_s = turn.begun_s - turn.asked.ended_s
    rooms_s = audio_s - asked_s
    return FirstAudioBreakdown(
        endpointing_s=endpointing_s,
        tokenizer_s=tokens_s - asked_s,
        lm_s=clause_s - tokens_s,
        tts_s=speech_tokens_s - clause_s,
        vocoder_s=audio_s - speech_tokens_s,
        orchestrator_s=at_s - turn.asked.ended_s - endpointing_s - rooms_s,
    )


def _record(turn: Turn) -> TurnRecord:
    asked, spoken, rate_hz = turn.asked, turn.asked.utterance, turn.playout.rate_hz
    metrics = TurnMetrics(
        first_audio=turn.first_audio,
        work=turn.work or ReplyWork(),
        user_audio_ms=0 if spoken is None else (spoken.end_sample - spoken.first_sample) // SAMPLES_PER_MS,
        reply_audio_ms=turn.playout.sent_samples * 1000 // rate_hz,
        heard_audio_ms=turn.heard_samples * 1000 // rate_hz,
        playout_underruns=turn.playout.underruns,
        speculation=turn.speculation,
    )
    return TurnRecord(
        number=turn.number,
        origin=asked.origin,
        user_text=turn.user_text or "",
        agent_text=turn.agent_text,
        outcome=turn.outcome,
        started_s=asked.started_s,
        ended_s=turn.ended_s,
        metrics=metrics,
        error=turn.error,
        request_id=asked.request_id,
        tool_exchanges=exchanges(turn.calls),
    )


def _basis(turn: Turn) -> ReplyBasis:
    words = turn.asked.text if turn.asked.origin is Origin.SAY else ""
    return ReplyBasis(turn.text, is_text_complete(turn), words, turn.seed, turn.asked.utterance)


def _both(first: ReplyWork, second: ReplyWork) -> ReplyWork:
    """The work of two parts of a reply."""
    rooms = {room.room: room for room in first.rooms}
    for room in second.rooms:
        known = rooms.get(room.room, RoomWork(room.room, 0, 0.0, room.first_output_s))
        requests, total_s = known.requests + room.requests, known.total_s + room.total_s
        rooms[room.room] = RoomWork(room.room, requests, total_s, known.first_output_s)
    return ReplyWork(
        tuple(rooms.values()),
        first.prompt_tokens + second.prompt_tokens,
        first.text_tokens + second.text_tokens,
        first.speech_tokens + second.speech_tokens,
        tuple(dict.fromkeys((*first.degradations, *second.degradations))),
    )
