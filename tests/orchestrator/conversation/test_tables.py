"""The tables, and what each event does in each pair of states."""

from collections.abc import Callable
from typing import get_args

import pytest

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
    Resumed,
    Timer,
    Transcribed,
)
from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.tables import (
    AGENT,
    USER,
    AgentMove,
    AgentState,
    UserMove,
    UserState,
    agent_after,
    as_markdown,
    user_after,
)
from services.shared.errors import GenerationError
from tests.orchestrator.conversation.talk import Talk, names

pytestmark = pytest.mark.unit
REPLY = ReplyId(1, 1)
Act = Callable[[Talk], tuple[Effect, ...]]
COLUMNS = [(user, agent) for agent in AgentState for user in UserState]


def talk_in(user: UserState, agent: AgentState) -> Talk:
    """A conversation in two states; a reply has text and 1 s of audio, and is not complete."""
    talk = Talk()
    if agent is AgentState.REPLYING:
        talk.text()
        talk.make_text("It rains today.")
        talk.make_audio(0, 1000, 8)
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
    "Detached": lambda talk: talk.tell(Detached(talk.now_s)),
    "Resumed": lambda talk: talk.tell(Resumed(talk.now_s, Playback(1, 400))),
    "ClosingSoon": lambda talk: talk.tell(ClosingSoon(talk.now_s, GoAwayReason.DRAINING, 900, resumable=True)),
    "Closed": lambda talk: talk.tell(Closed(talk.now_s)),
    "ReplyTextMade": lambda talk: talk.make_text(" Again.", REPLY),
    "ReplyAudioMade": lambda talk: talk.make_audio(1000, 1500, 9, reply=REPLY),
    "ReplyMade": lambda talk: talk.made(REPLY),
    "ReplyFailed": lambda talk: talk.failed(GenerationError("none")) if talk.state.live else (),
    "ReplyStopped": lambda talk: talk.stopped(REPLY),
    "Transcribed": lambda talk: talk.tell(Transcribed(talk.now_s, 1, "hello", is_final=True)),
    "TurnCommitted": lambda talk: talk.committed(1),
    "TimeReached playout": lambda talk: talk.time(Timer.PLAYOUT),
    "TimeReached acknowledgement": lambda talk: talk.time(Timer.ACKNOWLEDGEMENT),
}

SHORT = {
    "StartReply ReplyStarted SaveOpenTurn": "start",
    "CancelReply Interrupted SetTimer": "stop",
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
    "R": AgentState.REPLYING,
}
LETTER = {state: letter for letter, state in STATES.items()}


def what_happens(act: str, user: UserState, agent: AgentState) -> str:
    """Effects of an act in two states, and the states after it."""
    talk = talk_in(user, agent)
    told = " ".join(names(ACTS[act](talk)))
    for effects, short in SHORT.items():
        told = told.replace(effects, short)
    return f"{LETTER[talk.state.user.state]}{LETTER[talk.state.agent]} {told}".strip()


# Columns: what the user and the agent do before. Cells: the states after, and what is asked for.
TABLE: dict[str, tuple[str, ...]] = {
    # before:
    "": ("SI", "UI", "PI", "SR", "UR", "PR"),
    "VoiceFrame speech": ("UI open", "UI", "UI SpeechStarted", "UR open", "UR", "UR SpeechStarted"),
    "VoiceFrame pause": ("SI", "PI SpeechStopped", "PI", "SR", "PR SpeechStopped", "PR"),
    "VoiceFrame long silence": ("SI", "SR end start", "SR EndUtterance start", "SR", "SR end", "SR EndUtterance"),
    "EndOfTurn": ("SI", "SR end start", "SR EndUtterance start", "SR", "SR end", "SR EndUtterance"),
    "InputEnded": ("SI EndStream", "SR end start", "SR EndUtterance start", "SR", "SR end", "SR EndUtterance"),
    "TextTurn": (
        "SR start",
        "SR drop start",
        "SR DropUtterance start",
        "SR stop start",
        "SR drop stop start",
        "SR DropUtterance stop start",
    ),
    "TextTurn after reply": (
        "SR start",
        "SR drop start",
        "SR DropUtterance start",
        "SR",
        "SR drop",
        "SR DropUtterance",
    ),
    "Say": ("SR start", "UR start", "PR start", "SR stop start", "UR stop start", "PR stop start"),
    "Say after reply": ("SR start", "UR start", "PR start", "SR", "UR", "PR"),
    "Interrupt": ("SI", "UI", "PI", "SI stop", "UI stop", "PI stop"),
    "Acknowledged": ("SI", "UI", "PI", "SR", "UR", "PR"),
    "OptionsChanged": (
        "SI SessionUpdated",
        "UI SessionUpdated",
        "PI SessionUpdated",
        "SR SessionUpdated",
        "UR SessionUpdated",
        "PR SessionUpdated",
    ),
    "Detached": ("SI", "UI", "PI", "SI hold", "UI hold", "PI hold"),
    "Resumed": ("SI", "UI", "PI", "SI hold", "UI hold", "PI hold"),
    "ClosingSoon": ("SI GoAway", "UI GoAway", "PI GoAway", "SR GoAway", "UR GoAway", "PR GoAway"),
    "Closed": (
        "SI SetTimer",
        "SI DropUtterance SetTimer",
        "SI DropUtterance SetTimer",
        "SI CancelReply SetTimer CommitTurn",
        "SI CancelReply DropUtterance SetTimer CommitTurn",
        "SI CancelReply DropUtterance SetTimer CommitTurn",
    ),
    "ReplyTextMade": ("SI", "UI", "PI", "SR ReplyText", "UR ReplyText", "PR ReplyText"),
    "ReplyAudioMade": ("SI", "UI", "PI", "SR ReplyAudio", "UR ReplyAudio", "PR ReplyAudio"),
    "ReplyMade": ("SI", "UI", "PI", "SR ReplyEnded SetTimer", "UR ReplyEnded SetTimer", "PR ReplyEnded SetTimer"),
    "ReplyFailed": ("SI", "UI", "PI", "SR ReplyEnded SetTimer", "UR ReplyEnded SetTimer", "PR ReplyEnded SetTimer"),
    "ReplyStopped": ("SI", "UI", "PI", "SR ReplyEnded SetTimer", "UR ReplyEnded SetTimer", "PR ReplyEnded SetTimer"),
    "Transcribed": ("SI", "UI", "PI", "SR", "UR", "PR"),
    "TurnCommitted": ("SI", "UI", "PI", "SR", "UR", "PR"),
    "TimeReached playout": ("SI", "UI", "PI", "SR", "UR", "PR"),
    "TimeReached acknowledgement": ("SI", "UI", "PI", "SR", "UR", "PR"),
}


def test_the_table_covers_every_kind_of_event() -> None:
    assert {kind.__name__ for kind in get_args(Event)} == {act.split()[0] for act in ACTS}
    assert set(TABLE) == {"", *ACTS}


@pytest.mark.parametrize("column", range(6), ids=TABLE[""])
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
