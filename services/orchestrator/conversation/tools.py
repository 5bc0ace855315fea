"""Functions that the model calls while the agent speaks.

    reply         ▓▓▓ "let me see" ▓▓▓┊     ┊▓ "one moment" ▓┊        ▓▓▓ "it rains" ▓▓▓▓
    part 0        ├─ text ─┤ call      silence ├─ the notice
    function               ├─────────────── runs ────────────────┤ answered
    part 2                                                       ├─ reads the results, same turn, audio and text go on

Audio goes on while functions run: that of the model's words, then the notice after some silence, as a part of the reply
of its own, and again after more of it. When all of a part was made and every call is over, by an answer, a failure or
its time, the next part of the reply is begun with what the calls gave. A call that cannot be run fails at once and only
the model is told; after `MAX_CALLS` the model is offered no functions any more, so that a turn ends. Each call that the
client was told of ends once for the client too, before its turn does.
"""

from dataclasses import replace
from typing import Final

from services.orchestrator.conversation.effects import CancelTool, Effect, RunTool, SetTimer, StartReply
from services.orchestrator.conversation.events import Timer, ToolAnswered, ToolCallMade
from services.orchestrator.conversation.history import continued
from services.orchestrator.conversation.options import Options, ToolExecutor
from services.orchestrator.conversation.outputs import Refused, ReplyText, ToolCallEnded, ToolCallRequested
from services.orchestrator.conversation.record import Message, ToolOutcome
from services.orchestrator.conversation.state import Call, Part, Phase, State, Turn, tell, with_turn, working_turn
from services.orchestrator.conversation.tables import AgentMove, agent_after
from services.shared.errors import ToolCallNotFoundError

MAX_CALLS: Final = 16
REPEATED_AFTER_S: Final = 8.0
"""Silence before a notice is said again."""
_NEARLY_HEARD_S: Final = 0.3
"""Audio that may be left when a notice is begun: making it takes about as long."""
_FIRST_EAST_ASIAN: Final = "\u2e80"
"""Scripts from here on write no space between sentences."""


def on_tool_call(state: State, event: ToolCallMade, out: list[Effect]) -> State:
    """The live reply calls a function."""
    turn, called = working_turn(state, event.reply), event.call
    if turn is None or called.call_id in state.call_ids or len(turn.calls) >= MAX_CALLS:
        return state
    tool = next((tool for tool in turn.options.tools if tool.name == called.name), None)
    problem = event.problem or ("" if tool is not None else f"there is no function {called.name!r}")
    state = state._replace(call_ids=state.call_ids | {called.call_id})
    place = len(turn.text)
    if problem or tool is None:
        call = Call(called, None, event.at_s, ToolOutcome.FAILED, problem, place, None, event.at_s, event.at_s)
        return with_turn(state, turn._replace(calls=(*turn.calls, call)))
    deadline_s = event.at_s + tool.timeout_ms / 1000
    call = Call(called, tool, deadline_s, at_character=place, asked_s=event.at_s)
    turn = turn._replace(calls=(*turn.calls, call))
    _ask(state, turn, call, tool.timeout_ms, out)
    if not _client_runs(call):
        out.append(RunTool(turn.reply, called, tool))
    state = with_turn(state, turn)
    out.append(_timer(state))
    return running(state, turn)


def on_tool_answered(state: State, event: ToolAnswered, out: list[Effect]) -> State:
    """A function has answered; what nobody waits for has no effect."""
    turn, call = _pending(state, event.call_id)
    if event.from_client and (event.call_id not in state.call_ids or (call is not None and not _client_runs(call))):
        tell(state, out, Refused(ToolCallNotFoundError(f"no call {event.call_id!r} was made")))
        return state
    if turn is None or call is None:
        return state
    outcome = ToolOutcome.FAILED if event.is_error else ToolOutcome.RETURNED
    return _settle(state, _end_call(state, turn, call, (outcome, event.text, event.at_s), out), out)


def on_tool_time(state: State, at_s: float, out: list[Effect]) -> State:
    """A moment has come at which a call has taken as long as it may."""
    for turn in state.turns:
        overdue = [call for call in turn.calls if call.outcome is None and call.deadline_s <= at_s]
        for call in overdue:
            text = "the function did not answer in time"
            turn = _end_call(state, turn, call, (ToolOutcome.TIMED_OUT, text, at_s), out)
        if overdue:
            state = _settle(state, turn, out)
    return state


def cancel_calls(state: State, turn: Turn, at_s: float, out: list[Effect]) -> Turn:
    """Nobody waits for the turn's calls any more."""
    if not turn.waits_for_tools:
        return turn
    for call in turn.calls:
        if call.outcome is None:
            turn = _end_call(state, turn, call, (ToolOutcome.CANCELLED, "", at_s), out)
    out.append(_timer(with_turn(state, turn)))
    return turn


def ask_again(state: State, turn: Turn, at_s: float, out: list[Effect]) -> None:
    """The client is back: ask it again for what it has not answered."""
    for call in turn.calls:
        if call.outcome is None and _client_runs(call):
            _ask(state, turn, call, max(0, int((call.deadline_s - at_s) * 1000)), out)


def go_on(state: State, out: list[Effect]) -> State:
    """Begin the next part of the live reply, if every call of the part before is over and its audio was made."""
    turn = state.live
    if turn is None or not turn.is_part_over or turn.waits_for_tools:
        return state
    end = len(turn.text)
    calls = tuple(
        replace(call, read_character=end if call.read_character is None else call.read_character) for call in turn.calls
    )
    options = turn.options if len(calls) < MAX_CALLS else replace(turn.options, tools=())
    turn = turn._replace(calls=calls, notices=0, has_all_text=False)
    return _begin_part(state, turn, continued(turn), "", options=options, out=out)


def await_calls(state: State, turn: Turn, at_s: float, out: list[Effect]) -> None:
    """A part of the live reply is made: after some silence the notice is said, if calls are waited for still."""
    speech = turn.options.tool_speech
    if speech.notice and turn.waits_for_tools:
        silence_s = REPEATED_AFTER_S if turn.notices else speech.notice_after_ms / 1000
        out.append(SetTimer(Timer.NOTICE, at_s + turn.playout.lead_s(at_s) + silence_s))


def on_notice_time(state: State, at_s: float, out: list[Effect]) -> State:
    """A moment has come at which nothing has been heard for a while; one that is overtaken has no effect."""
    turn = state.live
    if turn is None or not turn.is_part_over or not turn.waits_for_tools:
        return state
    if turn.playout.lead_s(at_s) > _NEARLY_HEARD_S:
        await_calls(state, turn, at_s, out)
        return state
    turn = turn._replace(notices=turn.notices + 1)
    return _begin_part(state, turn, (), turn.options.tool_speech.notice, options=turn.options, out=out)


def calls_unread(turn: Turn) -> bool:
    """Whether another part of the reply is to follow."""
    return any(call.read_character is None for call in turn.calls)


def running(state: State, turn: Turn) -> State:
    """The state with the agent's part by the calls of the live turn."""
    move = AgentMove.CALL if turn.waits_for_tools else AgentMove.ANSWERED
    return state._replace(agent=agent_after(state.agent, move) or state.agent)


def _begin_part(
    state: State, turn: Turn, context: tuple[Message, ...], words: str, *, options: Options, out: list[Effect]
) -> State:
    """Begin the next part of the live reply, its text behind a space where the script has spaces."""
    if turn.text and not turn.text[-1].isspace() and turn.text[-1] < _FIRST_EAST_ASIAN:
        turn = turn._replace(text=f"{turn.text} ")
        tell(state, out, ReplyText(" "), turn.number)
    reply = turn.reply._replace(part=turn.reply.part + 1)
    part = Part(context, words, turn.playout.sent_samples, len(turn.text))
    out.append(
        StartReply(
            reply,
            context,
            words,
            options,
            seed=turn.seed,
            first_sample=part.first_sample,
            first_character=part.first_character,
        )
    )
    return with_turn(state, turn._replace(reply=reply, part=part, is_part_over=False))


def _end_call(state: State, turn: Turn, call: Call, ending: tuple[ToolOutcome, str, float], out: list[Effect]) -> Turn:
    """End a call: how, with what for the model, when."""
    outcome, text, at_s = ending
    if outcome in (ToolOutcome.TIMED_OUT, ToolOutcome.CANCELLED) and not _client_runs(call):
        out.append(CancelTool(call.call.call_id))
    tell(state, out, ToolCallEnded(call.call.call_id, outcome), turn.number)
    ended = replace(call, outcome=outcome, text=text, ended_s=at_s)
    calls = tuple(ended if other.call.call_id == call.call.call_id else other for other in turn.calls)
    return turn._replace(calls=calls)


def _settle(state: State, turn: Turn, out: list[Effect]) -> State:
    """The state with a turn of whose calls some are over."""
    state = with_turn(state, turn)
    out.append(_timer(state))
    return running(state, turn) if turn.phase is Phase.REPLYING else state


def _ask(state: State, turn: Turn, call: Call, timeout_ms: int, out: list[Effect]) -> None:
    tell(state, out, ToolCallRequested(call.call, _client_runs(call), timeout_ms), turn.number)


def _timer(state: State) -> SetTimer:
    waiting = (call.deadline_s for turn in state.turns for call in turn.calls if call.outcome is None)
    return SetTimer(Timer.TOOL, min(waiting, default=None))


def _pending(state: State, call_id: str) -> tuple[Turn | None, Call | None]:
    for turn in state.turns:
        for call in turn.calls:
            if call.call.call_id == call_id and call.outcome is None:
                return turn, call
    return None, None


def _client_runs(call: Call) -> bool:
    return call.tool is not None and call.tool.executor is ToolExecutor.CLIENT
