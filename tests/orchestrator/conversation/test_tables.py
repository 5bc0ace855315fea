"""The tables, and what each event does in each pair of states."""

from collections.abc import Callable
from typing import get_args

import pytest

from services.orchestrator.conversation.document import render
from services.orchestrator.conversation.effects import Effect
from services.orchestrator.conversation.events import (
    Acknowledged,
    Closed,
    ClosingSoon,
    Detached,
    Event,
    GoAwayReason,
    Interrupt,
    OptionsChanged,
    Playback,
    ReplyId,
    ReplyTakenUp,
    Resumed,
    SpeculationAllowed,
    Timer,
    ToolAnswered,
    ToolCallMade,
    Transcribed,
    TurnJudged,
)
from services.orchestrator.conversation.options import Options, SpeculationOptions, Tool, TurnTakingOptions
from services.orchestrator.conversation.record import ToolCall
from services.orchestrator.conversation.tables import (
    AGENT,
    USER,
    AgentMove,
    AgentState,
    UserMove,
    UserState,
    agent_after,
    as_diagrams,
    as_markdown,
    user_after,
)
from services.shared.errors import GenerationError
from tests.conftest import ROOT
from tests.orchestrator.conversation.talk import Talk, names

pytestmark = pytest.mark.unit
REPLY = ReplyId(1, 1)
Act = Callable[[Talk], tuple[Effect, ...]]
CALL = ToolCall("c1", "weather", "{}")
TOOLS = (Tool("weather", "Tells the weather."),)
AHEAD = Options(turn_taking=TurnTakingOptions(speculation=SpeculationOptions(enabled=True)))
COLUMNS = [
    (user, agent)
    for agent in AgentState
    for user in UserState
    if agent is not AgentState.SPECULATING or user is UserState.PAUSED
]


def talk_in(user: UserState, agent: AgentState) -> Talk:
    """A conversation in two states; a reply has text and 1 s of audio, and is not complete."""
    talk = Talk(AHEAD if agent is AgentState.SPECULATING else Options(tools=TOOLS))
    if agent in (AgentState.REPLYING, AgentState.TOOL_RUNNING):
        talk.text()
        talk.make_text("It rains today.")
        talk.make_audio(0, 1000, 8)
    if agent is AgentState.TOOL_RUNNING:
        talk.tell(ToolCallMade(talk.now_s, REPLY, CALL))
    if user is not UserState.SILENCE:
        talk.speak()
    if user is UserState.PAUSED:
        talk.hush(224)
    assert (talk.state.user.state, talk.state.agent) == (user, agent)
    return talk


ACTS: dict[str, Act] = {
    "VoiceFrame speech": lambda talk: talk.speak(96),
    "VoiceFrame pause": lambda talk: talk.hush(224),
    "VoiceFrame long silence": lambda talk: talk.hush(704),
    "EndOfTurn": Talk.end_turn,
    "InputEnded": Talk.end_input,
    "TextTurn": lambda talk: talk.text("new"),
    "TextTurn after reply": lambda talk: talk.text("new", after_reply=True),
    "Say": lambda talk: talk.say("new"),
    "Say after reply": lambda talk: talk.say("new", after_reply=True),
    "Interrupt": lambda talk: talk.tell(Interrupt(talk.now_s)),
    "Acknowledged": lambda talk: talk.tell(Acknowledged(talk.now_s, Playback(1, 400))),
    "OptionsChanged": lambda talk: talk.tell(OptionsChanged(talk.now_s, Options())),
    "ToolAnswered": lambda talk: talk.tell(ToolAnswered(talk.now_s, "c1", "sun", from_client=True)),
    "Detached": lambda talk: talk.tell(Detached(talk.now_s)),
    "Resumed": lambda talk: talk.tell(Resumed(talk.now_s, Playback(1, 400))),
    "ClosingSoon": lambda talk: talk.tell(ClosingSoon(talk.now_s, GoAwayReason.DRAINING, 900, resumable=True)),
    "Closed": lambda talk: talk.tell(Closed(talk.now_s)),
    "ReplyTextMade": lambda talk: talk.make_text(" Again.", REPLY),
    "ReplyAudioMade": lambda talk: talk.make_audio(1000, 1500, 9, reply=REPLY),
    "ToolCallMade": lambda talk: talk.tell(ToolCallMade(talk.now_s, REPLY, ToolCall("c2", "weather", "{}"))),
    "ReplyTakenUp": lambda talk: talk.tell(ReplyTakenUp(talk.now_s, REPLY, can_go_on=True)),
    "ReplyMade": lambda talk: talk.made(REPLY),
    "ReplyFailed": lambda talk: talk.failed(GenerationError("none"), REPLY),
    "ReplyStopped": lambda talk: talk.stopped(REPLY),
    "Transcribed": lambda talk: talk.tell(Transcribed(talk.now_s, 1, "hello", is_final=True)),
    "Transcribed partial": lambda talk: talk.tell(Transcribed(talk.now_s, 1, "hello", False, talk.heard)),
    "TurnJudged": lambda talk: talk.tell(TurnJudged(talk.now_s, 1, talk.heard, 0.9)),
    "SpeculationAllowed": lambda talk: talk.tell(SpeculationAllowed(talk.now_s, is_allowed=False)),
    "TurnCommitted": lambda talk: talk.committed(1),
    "TimeReached playout": lambda talk: talk.time(Timer.PLAYOUT),
    "TimeReached acknowledgement": lambda talk: talk.time(Timer.ACKNOWLEDGEMENT),
    "TimeReached false_interruption": lambda talk: talk.time(Timer.FALSE_INTERRUPTION),
    "TimeReached tool": lambda talk: talk.later(30_000).time(Timer.TOOL),
}

SHORT = {
    "StartReply ReplyStarted SaveOpenTurn": "start",
    "CommitReply ReplyStarted SaveOpenTurn": "commit",
    "ToolCallEnded SetTimer": "uncall",
    "ToolCallRequested SetTimer": "call",
    "CancelReply Interrupted SetTimer": "stop",
    "CancelReply Interrupted ToolCallEnded SetTimer SetTimer": "stop uncall",
    "CancelReply SaveOpenTurn": "hold",
    "OpenUtterance SpeechStarted": "open",
    "SpeechStopped EndUtterance": "end",
    "SpeechStopped DropUtterance": "drop",
}
STATES = {
    "S": UserState.SILENCE,
    "U": UserState.SPEAKING,
    "P": UserState.PAUSED,
    "I": AgentState.IDLE,
    "A": AgentState.SPECULATING,
    "R": AgentState.REPLYING,
    "T": AgentState.TOOL_RUNNING,
}
LETTER = {state: letter for letter, state in STATES.items()}


def what_happens(act: str, user: UserState, agent: AgentState) -> str:
    """Effects of an act in two states, and the states after it."""
    talk = talk_in(user, agent)
    told = " ".join(names(ACTS[act](talk)))
    for effects, short in SHORT.items():
        told = told.replace(effects, short)
    return f"{LETTER[talk.state.user.state]}{LETTER[talk.state.agent]} {told}".strip()


def row(*cells: str) -> tuple[str, ...]:
    """A row of the table: the cells of one state of the agent are one string."""
    return tuple(cell.strip() for group in cells for cell in group.split("|"))


# Columns: what the user and the agent do before. Cells: the states after, and what is asked for.
TABLE: dict[str, tuple[str, ...]] = {
    # before:
    "": row("SI | UI | PI", "PA", "SR | UR | PR", "ST | UT | PT"),
    "VoiceFrame speech": row(
        "UI open | UI | UI SpeechStarted",
        "UI SpeechStarted CancelReply",
        "UR open | UR | UR SpeechStarted",
        "UT open | UT | UT SpeechStarted",
    ),
    "VoiceFrame pause": row(
        "SI | PI SpeechStopped | PI", "PA", "SR | PR SpeechStopped | PR", "ST | PT SpeechStopped | PT"
    ),
    "VoiceFrame long silence": row(
        "SI | SR end start | SR EndUtterance start",
        "SR EndUtterance commit",
        "SR | SR end | SR EndUtterance",
        "ST | ST end | ST EndUtterance",
    ),
    "EndOfTurn": row(
        "SI | SR end start | SR EndUtterance start",
        "SR EndUtterance commit",
        "SR | SR end | SR EndUtterance",
        "ST | ST end | ST EndUtterance",
    ),
    "InputEnded": row(
        "SI EndStream | SR end start | SR EndUtterance start",
        "SR EndUtterance commit",
        "SR | SR end | SR EndUtterance",
        "ST | ST end | ST EndUtterance",
    ),
    "TextTurn": row(
        "SR start | SR drop start | SR DropUtterance start",
        "SR DropUtterance CancelReply start",
        "SR stop start | SR drop stop start | SR DropUtterance stop start",
        "SR CancelReply Interrupted uncall SetTimer start",
        "SR drop CancelReply Interrupted uncall SetTimer start",
        "SR DropUtterance CancelReply Interrupted uncall SetTimer start",
    ),
    "TextTurn after reply": row(
        "SR start | SR drop start | SR DropUtterance start",
        "SR DropUtterance CancelReply start",
        "SR | SR drop | SR DropUtterance",
        "ST | ST drop | ST DropUtterance",
    ),
    "Say": row(
        "SR start | UR start | PR start",
        "PR CancelReply start",
        "SR stop start | UR stop start | PR stop start",
        "SR CancelReply Interrupted uncall SetTimer start",
        "UR CancelReply Interrupted uncall SetTimer start",
        "PR CancelReply Interrupted uncall SetTimer start",
    ),
    "Say after reply": row("SR start | UR start | PR start", "PR CancelReply start", "SR | UR | PR", "ST | UT | PT"),
    "Interrupt": row(
        "SI | UI | PI",
        "PA",
        "SI stop | UI stop | PI stop",
        "SI CancelReply Interrupted uncall SetTimer",
        "UI CancelReply Interrupted uncall SetTimer",
        "PI CancelReply Interrupted uncall SetTimer",
    ),
    "Acknowledged": row("SI | UI | PI", "PA", "SR | UR | PR", "ST | UT | PT"),
    "OptionsChanged": row(
        "SI SessionUpdated | UI SessionUpdated | PI SessionUpdated",
        "PA SessionUpdated",
        "SR SessionUpdated | UR SessionUpdated | PR SessionUpdated",
        "ST SessionUpdated | UT SessionUpdated | PT SessionUpdated",
    ),
    "ToolAnswered": row(
        "SI Refused | UI Refused | PI Refused",
        "PA Refused",
        "SR Refused | UR Refused | PR Refused",
        "SR uncall | UR uncall | PR uncall",
    ),
    "Detached": row("SI | UI | PI", "PI CancelReply", "SI hold | UI hold | PI hold", "SI hold | UI hold | PI hold"),
    "Resumed": row(
        "SI | UI | PI",
        "PI CancelReply",
        "SI hold | UI hold | PI hold",
        "SI hold uncall | UI hold uncall | PI hold uncall",
    ),
    "ClosingSoon": row(
        "SI GoAway | UI GoAway | PI GoAway",
        "PA GoAway",
        "SR GoAway | UR GoAway | PR GoAway",
        "ST GoAway | UT GoAway | PT GoAway",
    ),
    "Closed": row(
        "SI SetTimer | SI DropUtterance SetTimer | SI DropUtterance SetTimer",
        "SI CancelReply DropUtterance SetTimer",
        "SI CancelReply SetTimer CommitTurn",
        "SI CancelReply DropUtterance SetTimer CommitTurn",
        "SI CancelReply DropUtterance SetTimer CommitTurn",
        "SI CancelReply uncall SetTimer CommitTurn",
        "SI CancelReply uncall DropUtterance SetTimer CommitTurn",
        "SI CancelReply uncall DropUtterance SetTimer CommitTurn",
    ),
    "ReplyTextMade": row(
        "SI | UI | PI", "PA", "SR ReplyText | UR ReplyText | PR ReplyText", "ST ReplyText | UT ReplyText | PT ReplyText"
    ),
    "ReplyAudioMade": row(
        "SI | UI | PI",
        "PA",
        "SR ReplyAudio | UR ReplyAudio | PR ReplyAudio",
        "ST ReplyAudio | UT ReplyAudio | PT ReplyAudio",
    ),
    "ToolCallMade": row("SI | UI | PI", "PA", "ST call | UT call | PT call", "ST call | UT call | PT call"),
    "ReplyTakenUp": row("SI | UI | PI", "PA", "SR | UR | PR", "ST | UT | PT"),
    "ReplyMade": row(
        "SI | UI | PI",
        "PA",
        "SR ReplyEnded SetTimer | UR ReplyEnded SetTimer | PR ReplyEnded SetTimer",
        "ST SetTimer | UT SetTimer | PT SetTimer",
    ),
    "ReplyFailed": row(
        "SI | UI | PI",
        "PI",
        "SR ReplyEnded SetTimer | UR ReplyEnded SetTimer | PR ReplyEnded SetTimer",
        "SR uncall ReplyEnded SetTimer | UR uncall ReplyEnded SetTimer | PR uncall ReplyEnded SetTimer",
    ),
    "ReplyStopped": row(
        "SI | UI | PI",
        "PI",
        "SR ReplyEnded SetTimer | UR ReplyEnded SetTimer | PR ReplyEnded SetTimer",
        "SR uncall ReplyEnded SetTimer | UR uncall ReplyEnded SetTimer | PR uncall ReplyEnded SetTimer",
    ),
    "Transcribed": row("SI | UI | PI", "PA", "SR | UR | PR", "ST | UT | PT"),
    "Transcribed partial": row("SI | UI | PI", "PA", "SR | UR | PR", "ST | UT | PT"),
    "TurnJudged": row("SI | UI | PI", "PA", "SR | UR | PR", "ST | UT | PT"),
    "SpeculationAllowed": row("SI | UI | PI", "PA", "SR | UR | PR", "ST | UT | PT"),
    "TurnCommitted": row("SI | UI | PI", "PA", "SR | UR | PR", "ST | UT | PT"),
    "TimeReached playout": row("SI | UI | PI", "PA", "SR | UR | PR", "ST | UT | PT"),
    "TimeReached acknowledgement": row("SI | UI | PI", "PA", "SR | UR | PR", "ST | UT | PT"),
    "TimeReached false_interruption": row("SI | UI | PI", "PA", "SR | UR | PR", "ST | UT | PT"),
    "TimeReached tool": row("SI | UI | PI", "PA", "SR | UR | PR", "SR uncall | UR uncall | PR uncall"),
}


def test_the_table_covers_every_kind_of_event() -> None:
    assert {kind.__name__ for kind in get_args(Event)} == {act.split()[0] for act in ACTS}
    assert set(TABLE) == {"", *ACTS}


@pytest.mark.parametrize("column", range(len(COLUMNS)), ids=TABLE[""])
@pytest.mark.parametrize("act", ACTS)
def test_each_event_does_in_each_state_what_the_table_says(act: str, column: int) -> None:
    assert what_happens(act, *COLUMNS[column]) == TABLE[act][column]


def test_no_move_of_a_machine_has_two_ends() -> None:
    for rows in (USER, AGENT):
        assert len({(row.state, row.move) for row in rows}) == len(rows)


def test_a_move_without_a_row_leads_nowhere() -> None:
    assert user_after(UserState.SILENCE, UserMove.TURN_END) is None
    assert agent_after(AgentState.IDLE, AgentMove.HEARD) is None
    assert user_after(UserState.PAUSED, UserMove.SPEECH) is UserState.SPEAKING


def test_the_tables_are_drawn_for_the_documents() -> None:
    drawn = as_markdown().splitlines()
    assert len(drawn) == len(USER) + len(AGENT) + 5
    assert "| Idle | a turn is answered | Replying | start the reply; `reply_started` |" in drawn
    assert all(line.count("|") == 5 for line in drawn if line)


def test_the_diagrams_have_an_arrow_for_each_row() -> None:
    assert as_diagrams().count(" --> ") == len(USER) + len(AGENT) + 2


def test_the_page_of_the_documents_is_made_from_the_tables() -> None:
    page = (ROOT / "docs" / "turn-taking.md").read_text(encoding="utf-8")
    assert page == render(), "run `python -m services.orchestrator.conversation.document docs/turn-taking.md`"


def test_a_reply_is_prepared_only_while_the_user_pauses() -> None:
    talk = talk_in(UserState.PAUSED, AgentState.SPECULATING)
    for act in ACTS:
        after = talk_in(UserState.PAUSED, AgentState.SPECULATING)
        ACTS[act](after)
        is_ahead = after.state.agent is AgentState.SPECULATING
        assert is_ahead is (after.state.ahead.speculation is not None)
        assert not is_ahead or after.state.user.state is UserState.PAUSED
    assert talk.state.live is None
