"""Replies prepared at a pause, of which nobody hears before the user's turn has surely ended.

    user      ▒▒▒▒▒▒▒▒▒────────▒▒▒▒▒▒▒▒▒▒▒──────────────────────┊ the turn ends
    prepared           ├ 1 ✗   cancelled          ├ 2 ──────────┊▶ everything made so far is sent at once
    agent     Idle     Speculating  Idle          Speculating     Replying

Most pauses are no end of a turn, so it pays to begin late: not before the silence is as long as this caller's pauses
are as a rule (where that is learned), nor before it has to be begun to be ready when the turn ends, as far as is known
what the rooms have lately taken for a first audio.

A prepared reply reads the utterance as it is at the pause. Since any further speech throws it away, what is committed
has read all that was said. It is thrown away as well where what it read is not true any more: another part of the
last reply was heard, another turn comes first, or options have changed. A call of a function waits for the commit.

Source: the speculative response generation of the Step-Audio report, section 4.
"""

from dataclasses import replace
from typing import Final

from services.orchestrator.conversation.effects import CancelReply, Effect, StartReply
from services.orchestrator.conversation.events import ReplyAudioMade, ReplyId, ReplyTextMade, ToolCallMade
from services.orchestrator.conversation.history import context
from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.patience import ending_silence_ms, usual_pause_ms
from services.orchestrator.conversation.record import (
    FirstAudioMarks,
    Message,
    Origin,
    ReplyWork,
    Role,
    SpeculationWork,
    Utterance,
)
from services.orchestrator.conversation.state import Ahead, Asked, Speculation, State, StreamState, find_turn, with_turn
from services.orchestrator.conversation.tables import AgentMove, UserState, agent_after
from services.orchestrator.conversation.voice_activity import SAMPLES_PER_MS

TAIL_MS: Final = 160
"""Of the silence that ends an utterance, what belongs to it."""

_SLACK_MS: Final = 64
"""Two frames of voice activity: the end of a silence is seen by whole ones."""
_REMEMBERED_PREPARATIONS: Final = 8

_SEED_STEP: Final = 2_654_435_761
_SEEDS: Final = 2**31


def seed_of(state: State, turn: int) -> int | None:
    """The seed of a turn's speech: the caller's, or one of the session's that is the same whenever it is asked for."""
    chosen = state.options.voice.seed
    if chosen is not None or state.seed is None:
        return chosen
    return (state.seed + turn * _SEED_STEP) % _SEEDS


def tail_end(state: State) -> int:
    """Where the open utterance ends if nothing more is said."""
    ears = state.ears
    return min(ears.speech_end + TAIL_MS * SAMPLES_PER_MS, ears.end_sample)


def prepare(state: State, out: list[Effect]) -> State:
    """Begin a reply ahead if the user pauses, the agent is idle and it is wanted; once for each pause."""
    ahead, user = state.ahead, state.user
    after = agent_after(state.agent, AgentMove.PREPARE)
    wanted = state.options.turn_taking.speculation
    if not wanted.enabled or after is None or user.state is not UserState.PAUSED or state.waiting:
        return state
    if state.stream is not StreamState.ATTACHED or ahead.tried_sample >= state.ears.speech_end:
        return state
    count = ahead.count if ahead.utterance == user.utterance else 0
    if count >= wanted.max_per_turn or state.ears.run_first is not None:
        return state
    if state.ears.silent_samples < _waiting_ms(state) * SAMPLES_PER_MS:
        return state
    ahead = replace(ahead, utterance=user.utterance, count=count, tried_sample=state.ears.speech_end)
    if not ahead.is_allowed:
        given_up = ahead.tally.given_up or ahead.is_given_up
        tally = replace(ahead.tally, withheld=ahead.tally.withheld + 1, given_up=given_up)
        return state._replace(ahead=replace(ahead, tally=tally))
    spoken = Utterance(user.utterance, user.first_sample, tail_end(state))
    read = context(state, Asked(Origin.SPEECH, user.started_s, user.started_s, utterance=spoken), is_open=True)
    reply = ReplyId(state.next_turn, state.epoch, ahead.parts)
    seed = seed_of(state, reply.turn)
    out.append(StartReply(reply, read, "", state.options, seed=seed, is_speculative=True))
    ahead = replace(
        ahead,
        speculation=Speculation(reply, user.utterance, read, state.options),
        parts=ahead.parts + 1,
        count=count + 1,
        tally=replace(ahead.tally, started=ahead.tally.started + 1),
    )
    return state._replace(agent=after, ahead=ahead)


def discard(state: State, out: list[Effect]) -> State:
    """Throw the prepared reply away, if there is one."""
    speculation = state.ahead.speculation
    if speculation is None:
        return state
    ahead = replace(state.ahead, speculation=None)
    ahead = replace(ahead, tally=replace(ahead.tally, discarded=ahead.tally.discarded + 1))
    if speculation.work is None:
        out.append(CancelReply(speculation.reply))
        ahead = replace(ahead, discarded=(*ahead.discarded, speculation.reply))
    else:
        ahead = replace(ahead, tally=_wasting(ahead.tally, speculation.work))
    after = agent_after(state.agent, AgentMove.DISCARD) or state.agent
    return state._replace(agent=after, ahead=ahead)


def committed(state: State, asked: Asked, read: tuple[Message, ...]) -> Speculation | None:
    """The prepared reply, if it is the answer to a turn; else None, and it is to be thrown away.

    Args:
        state: before the turn is taken up.
        asked: the turn.
        read: what a reply to it would read now.
    """
    speculation = state.ahead.speculation
    if speculation is None or asked.utterance is None or speculation.reply.epoch != state.epoch:
        return None
    if asked.utterance.number != speculation.utterance:
        return None
    is_same = _agents_part(read) == _agents_part(speculation.read) and len(read) == len(speculation.read)
    return speculation if is_same and _for_replies(state.options) == _for_replies(speculation.options) else None


def keep_made(state: State, event: ReplyTextMade | ReplyAudioMade | ToolCallMade) -> State:
    """What a prepared reply reports waits for its commit; of audio, what follows what was made before."""
    speculation = state.ahead.speculation
    if speculation is None or speculation.reply != event.reply or speculation.work is not None:
        return state
    if isinstance(event, ReplyAudioMade) and event.first_sample != speculation.end_sample:
        return state
    speculation = replace(speculation, made=(*speculation.made, event))
    return state._replace(ahead=replace(state.ahead, speculation=speculation))


def prepared_work_over(state: State, reply: ReplyId, work: ReplyWork, out: list[Effect], *, failed: bool) -> State:
    """The work on a reply that was prepared, or thrown away, is over; what failed is thrown away and begun anew."""
    ahead = state.ahead
    if reply in ahead.discarded:
        ahead = replace(ahead, discarded=tuple(old for old in ahead.discarded if old != reply))
        turn = find_turn(state, reply.turn)
        if turn is None:
            return state._replace(ahead=replace(ahead, tally=_wasting(ahead.tally, work)))
        return with_turn(state, turn._replace(speculation=_wasting(turn.speculation, work)))._replace(ahead=ahead)
    if ahead.speculation is None or ahead.speculation.reply != reply or ahead.speculation.work is not None:
        return state
    state = state._replace(ahead=replace(ahead, speculation=replace(ahead.speculation, work=work)))
    return discard(state, out) if failed else state


def next_turn_ahead(ahead: Ahead) -> Ahead:
    """What is left for the turns after one that is taken up: replies that were thrown away still count to it."""
    return replace(ahead, speculation=None, parts=0, tally=SpeculationWork())


def learn_preparation(state: State, marks: FirstAudioMarks) -> State:
    """A reply's first audio was there."""
    taken_ms = round((marks.audio_s - marks.asked_s) * 1000)
    return state._replace(preparations_ms=(*state.preparations_ms, taken_ms)[-_REMEMBERED_PREPARATIONS:])


def saved_ms(marks: FirstAudioMarks, committed_s: float) -> int:
    """How much later the first audio had come if the rooms had begun at the commit and taken as long."""
    return max(0, int((min(marks.audio_s, committed_s) - marks.asked_s) * 1000))


def _waiting_ms(state: State) -> float:
    """Silence after which it is time to prepare a reply."""
    usual_ms = usual_pause_ms(state)
    if not state.preparations_ms:
        return usual_ms
    return max(usual_ms, ending_silence_ms(state) - max(state.preparations_ms) - _SLACK_MS)


def _agents_part(read: tuple[Message, ...]) -> list[Message]:
    """A context without the user's part, whose words may have taken the place of the speech meanwhile."""
    return [message for message in read if message.role is not Role.USER]


def _for_replies(options: Options) -> Options:
    return replace(options, turn_taking=Options().turn_taking, partial_transcripts=False)


def _wasting(tally: SpeculationWork, work: ReplyWork) -> SpeculationWork:
    return replace(tally, wasted_tokens=tally.wasted_tokens + work.text_tokens + work.speech_tokens)
