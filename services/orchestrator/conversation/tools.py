"""Functions that the model calls while the agent speaks.

    reply         ▓▓▓ "let me see" ▓▓▓┊        ▓▓▓ "it rains" ▓▓▓▓
    part 0        ├─ text ─┤ call      └─ waits if there is nothing left to say
    function               ├──── runs ─────┤ answered
    part 1                                 ├─ reads the results, same turn, samples and text go on

The text ends where functions are called; its audio goes on. When all of it was made and every call is over, by an
answer, a failure or its time, the next part of the reply is begun with what the calls gave. A call that cannot be run
fails at once and only the model is told; after `MAX_CALLS` the model is offered no functions any more, so that a turn
ends. Each call that the client was told of ends once for the client too, before its turn does.
"""

from dataclasses import replace
from typing import Final

from services.orchestrator.conversation.effects import CancelTool, Effect, RunTool, SetTimer, StartReply
from services.orchestrator.conversation.events import Timer, ToolAnswered, ToolCallMade
from services.orchestrator.conversation.history import continued
from services.orchestrator.conversation.options import ToolExecutor
from services.orchestrator.conversation.outputs import Refused, ToolCallEnded, ToolCallRequested
from services.orchestrator.conversation.record import ToolOutcome
from services.orchestrator.conversation.state import Call, Phase, State, Turn, tell, with_turn, working_turn
from services.orchestrator.conversation.tables import AgentMove, agent_after
from services.shared.errors import ToolCallNotFoundError

MAX_CALLS: Final = 16


def on_tool_call(state: State, event: ToolCallMade, out: list[Effect]) -> State:
    """The live reply calls a function."""
    turn, called = working_turn(state, event.reply), event.call
    if turn is None or called.call_id in state.call_ids or len(turn.calls) >= MAX_CALLS:
        return state
    tool = next((tool for tool in turn.options.tools if tool.name == called.name), None)
    problem = event.problem or ("" if tool is not None else f"there is no function {called.name!r}")
    state = replace(state, call_ids=state.call_ids | {called.call_id})
    place = len(turn.text)
    if problem or tool is None:
        call = Call(called, None, event.at_s, ToolOutcome.FAILED, problem, place)
        return with_turn(state, replace(turn, calls=(*turn.calls, call)))
    call = Call(called, tool, event.at_s + tool.timeout_ms / 1000, at_character=place)
    turn = replace(turn, calls=(*turn.calls, call))
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
    return _settle(state, _end_call(state, turn, call, outcome, out, text=event.text), out)


def on_tool_time(state: State, at_s: float, out: list[Effect]) -> State:
    """A moment has come at which a call has taken as long as it may."""
    for turn in state.turns:
        overdue = [call for call in turn.calls if call.outcome is None and call.deadline_s <= at_s]
        for call in overdue:
            text = "the function did not answer in time"
            turn = _end_call(state, turn, call, ToolOutcome.TIMED_OUT, out, text=text)
        if overdue:
            state = _settle(state, turn, out)
    return state


def cancel_calls(state: State, turn: Turn, out: list[Effect]) -> Turn:
    """Nobody waits for the turn's calls any more."""
    if not turn.waits_for_tools:
        return turn
    for call in turn.calls:
        if call.outcome is None:
            turn = _end_call(state, turn, call, ToolOutcome.CANCELLED, out)
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
    reply = turn.reply._replace(part=turn.reply.part + 1)
    calls = tuple(replace(call, is_read=True) for call in turn.calls)
    options = turn.options if len(calls) < MAX_CALLS else replace(turn.options, tools=())
    turn = replace(turn, reply=reply, calls=calls, is_part_over=False, has_all_text=False)
    out.append(
        StartReply(
            reply,
            continued(turn),
            "",
            options,
            seed=turn.seed,
            first_sample=turn.playout.sent_samples,
            first_character=len(turn.text),
        )
    )
    return with_turn(state, turn)


def calls_unread(turn: Turn) -> bool:
    """Whether another part of the reply is to follow."""
    return any(not call.is_read for call in turn.calls)


def running(state: State, turn: Turn) -> State:
    """The state with the agent's part by the calls of the live turn."""
    move = AgentMove.CALL if turn.waits_for_tools else AgentMove.ANSWERED
    return replace(state, agent=agent_after(state.agent, move) or state.agent)


def _end_call(state: State, turn: Turn, call: Call, outcome: ToolOutcome, out: list[Effect], *, text: str = "") -> Turn:
    if outcome in (ToolOutcome.TIMED_OUT, ToolOutcome.CANCELLED) and not _client_runs(call):
        out.append(CancelTool(call.call.call_id))
    tell(state, out, ToolCallEnded(call.call.call_id, outcome), turn.number)
    ended = replace(call, outcome=outcome, text=text)
    calls = tuple(ended if other.call.call_id == call.call.call_id else other for other in turn.calls)
    return replace(turn, calls=calls)


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
