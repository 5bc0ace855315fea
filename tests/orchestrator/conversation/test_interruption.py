"""What stops a reply, and what was heard of it then."""

import pytest

from services.orchestrator.conversation import Past
from services.orchestrator.conversation.effects import (
    CancelReply,
    CommitTurn,
    Effect,
    Emit,
    OpenUtterance,
    SaveOpenTurn,
    SetTimer,
    StartReply,
    Transcribe,
)
from services.orchestrator.conversation.events import (
    Closed,
    ClosingSoon,
    Detached,
    GoAwayReason,
    Interrupt,
    Playback,
    ReplyId,
    Resumed,
    Timer,
)
from services.orchestrator.conversation.outputs import GoAway, Interrupted, InterruptionReason, TurnEnded
from services.orchestrator.conversation.record import Message, Origin, Outcome, Role, TurnRecord
from services.shared.errors import RoomUnavailableError
from tests.orchestrator.conversation.talk import WORK, Talk, all_of, names, one

pytestmark = pytest.mark.unit
TEXT = "It rains today in Lisbon."


def replying(*, made: bool = False) -> Talk:
    """A conversation in which 2 s of a reply were sent."""
    talk = Talk()
    talk.text("a")
    talk.make_text(TEXT)
    talk.make_audio(0, 2000, len(TEXT))
    if made:
        talk.made()
    return talk


def interrupt(talk: Talk, playback: Playback | None = None) -> tuple[Effect, ...]:
    return talk.tell(Interrupt(talk.now_s, playback))


def test_an_interruption_begins_a_new_epoch_and_cancels_the_work() -> None:
    talk = replying()
    talk.wait(500)
    effects = interrupt(talk)
    assert effects == (
        CancelReply(ReplyId(1, 1)),
        Emit(1, 2, Interrupted(InterruptionReason.CLIENT, 500)),
        SetTimer(Timer.ACKNOWLEDGEMENT, talk.now_s + 0.5),
    )
    assert talk.state.live_reply is None


def test_nothing_of_an_interrupted_reply_follows() -> None:
    talk = replying()
    interrupt(talk)
    assert talk.make_text("more", ReplyId(1, 1)) == ()
    assert talk.make_audio(2000, 3000, 20, reply=ReplyId(1, 1)) == ()


def test_the_turn_ends_with_the_acknowledgement_after_the_interruption() -> None:
    talk = replying()
    interrupt(talk)
    talk.stopped(ReplyId(1, 1))
    talk.wait(100)
    record = one(talk.acknowledge(1, 1000), CommitTurn).record
    assert (record.outcome, record.agent_text) == (Outcome.INTERRUPTED, "It rains")
    assert record.metrics.heard_audio_ms == 1000
    assert record.metrics.work == WORK
    ended = talk.committed(1)
    assert ended[0] == Emit(1, 2, TurnEnded(record, 1000))


def test_the_turn_ends_after_half_a_second_without_an_acknowledgement() -> None:
    talk = replying()
    talk.wait(1000)
    interrupt(talk)
    talk.stopped(ReplyId(1, 1))
    talk.wait(400)
    assert talk.time(Timer.ACKNOWLEDGEMENT) == ()
    talk.wait(101)
    assert one(talk.time(Timer.ACKNOWLEDGEMENT), CommitTurn).record.agent_text == "It rains"
    assert talk.acknowledge(1, 2000) == ()


def test_an_interruption_that_says_what_was_heard_waits_for_nothing() -> None:
    talk = replying()
    effects = interrupt(talk, Playback(1, 1000))
    assert "SetTimer" not in names(effects)
    assert one(effects, Interrupted).heard_samples == 1000
    assert "CommitTurn" in names(talk.stopped(ReplyId(1, 1)))


def test_what_an_interruption_says_about_another_turn_is_not_believed() -> None:
    assert "SetTimer" in names(interrupt(replying(), Playback(9, 1000)))


def test_a_reply_that_sent_no_audio_ends_without_waiting_for_an_acknowledgement() -> None:
    talk = Talk()
    talk.text()
    interrupt(talk)
    record = one(talk.stopped(ReplyId(1, 1)), CommitTurn).record
    assert (record.outcome, record.agent_text) == (Outcome.INTERRUPTED, "")


def test_a_reply_that_was_sent_and_not_yet_heard_can_be_interrupted() -> None:
    talk = replying(made=True)
    talk.wait(1000)
    effects = interrupt(talk)
    assert names(effects) == ["SetTimer", "Interrupted", "SetTimer"]
    assert effects[0] == SetTimer(Timer.PLAYOUT, None)
    assert one(talk.acknowledge(1, 1000), CommitTurn).record.outcome is Outcome.INTERRUPTED


def test_an_interruption_without_a_reply_does_nothing() -> None:
    talk = Talk()
    assert interrupt(talk) == ()
    talk.text()
    talk.reply()
    talk.heard_all()
    assert interrupt(talk) == ()
    assert talk.state.epoch == 1


def test_a_turn_of_the_client_interrupts_and_is_answered_before_those_that_wait() -> None:
    talk = replying()
    talk.text("waits", after_reply=True)
    effects = talk.text("now")
    assert one(effects, Interrupted).reason is InterruptionReason.CLIENT_TURN
    assert one(effects, StartReply).reply == ReplyId(2, 2)
    assert [message.content for message in one(effects, StartReply).context][-1] == "hello"
    assert talk.state.waiting[0].request_id == "waits"


def test_two_interrupted_turns_each_wait_for_their_own_acknowledgement() -> None:
    talk = replying()
    first = one(interrupt(talk), SetTimer)
    talk.stopped(ReplyId(1, 1))
    talk.wait(250)
    talk.text("b")
    talk.make_text(TEXT)
    talk.make_audio(0, 2000, len(TEXT))
    assert one(interrupt(talk), SetTimer) == first
    talk.stopped(ReplyId(2, 2))
    talk.wait(250)
    effects = talk.time(Timer.ACKNOWLEDGEMENT)
    assert one(effects, SetTimer).at_s == talk.now_s + 0.25
    assert one(effects, CommitTurn).record.number == 1


def test_a_failed_reply_that_is_interrupted_still_tells_its_error() -> None:
    talk = replying()
    talk.failed(RoomUnavailableError("gone"))
    interrupt(talk)
    assert one(talk.acknowledge(1, 1000), CommitTurn).record.outcome is Outcome.FAILED


def test_the_history_has_only_what_was_heard_of_an_interrupted_reply() -> None:
    talk = replying()
    talk.wait(1000)
    context = one(talk.text("b", "and tomorrow?"), StartReply).context
    assert [message.content for message in context] == ["hello", "It rains", "and tomorrow?"]


def test_the_transcript_of_an_interrupted_turn_is_still_asked_for() -> None:
    talk = Talk()
    talk.say_turn()
    assert one(interrupt(talk), Transcribe) == Transcribe(1)


def test_a_lost_stream_cancels_the_reply_and_holds_its_turn() -> None:
    talk = replying()
    talk.wait(1000)
    effects = talk.tell(Detached(talk.now_s))
    assert names(effects) == ["CancelReply", "SaveOpenTurn"]
    assert one(effects, SaveOpenTurn).agent_text == "It rains"
    assert talk.stopped(ReplyId(1, 1)) == ()
    assert talk.state.epoch == 1


@pytest.mark.parametrize(("played", "text"), [(1000, "It rains"), (1900, "It rains today in"), (None, "")])
def test_a_resumed_turn_ends_as_interrupted_with_what_the_client_heard(played: int | None, text: str) -> None:
    talk = replying()
    talk.wait(500)
    talk.tell(Detached(talk.now_s))
    talk.stopped(ReplyId(1, 1))
    playback = None if played is None else Playback(1, played)
    record = one(talk.tell(Resumed(talk.now_s, playback)), CommitTurn).record
    assert (record.outcome, record.agent_text) == (Outcome.INTERRUPTED, text)
    assert talk.state.epoch == 2


def test_a_resumed_turn_whose_whole_reply_was_heard_is_complete() -> None:
    talk = replying(made=True)
    talk.tell(Detached(talk.now_s))
    record = one(talk.tell(Resumed(talk.now_s, Playback(1, 2000))), CommitTurn).record
    assert (record.outcome, record.agent_text) == (Outcome.COMPLETED, TEXT)


def test_a_resume_never_takes_back_what_was_acknowledged() -> None:
    talk = replying()
    talk.acknowledge(1, 1000)
    talk.tell(Detached(talk.now_s))
    talk.stopped(ReplyId(1, 1))
    assert one(talk.tell(Resumed(talk.now_s)), CommitTurn).record.agent_text == "It rains"


def test_a_resume_ends_an_interrupted_turn_that_waited_for_the_client() -> None:
    talk = replying()
    interrupt(talk)
    talk.stopped(ReplyId(1, 1))
    talk.tell(Detached(talk.now_s))
    assert one(talk.tell(Resumed(talk.now_s, Playback(1, 1000))), CommitTurn).record.agent_text == "It rains"


def test_while_the_stream_is_lost_no_reply_starts_and_none_is_forgotten() -> None:
    talk = replying()
    talk.text("b", after_reply=True)
    assert "StartReply" not in names(talk.tell(Detached(talk.now_s)))
    assert "StartReply" not in names(talk.say_turn())
    assert one(talk.tell(Resumed(talk.now_s)), StartReply).reply == ReplyId(2, 2)
    talk.reply()
    assert one(talk.heard_all(), StartReply).reply == ReplyId(3, 2)


def test_a_stream_that_takes_over_a_live_one_ends_its_reply_too() -> None:
    talk = replying()
    assert one(talk.tell(Resumed(talk.now_s)), CancelReply).reply == ReplyId(1, 1)
    assert talk.state.epoch == 2


def test_a_conversation_whose_input_had_ended_ends_its_stream_after_the_resume() -> None:
    talk = replying()
    talk.end_input()
    talk.tell(Detached(talk.now_s))
    talk.stopped(ReplyId(1, 1))
    talk.tell(Resumed(talk.now_s))
    assert names(talk.committed(1)) == ["TurnEnded", "EndStream"]


def test_a_closed_session_keeps_what_is_open_as_interrupted_and_ends() -> None:
    talk = Talk()
    talk.say_turn()
    talk.make_text(TEXT)
    talk.make_audio(0, 2000, len(TEXT))
    talk.text("waits", after_reply=True)
    talk.wait(1000)
    record = one(talk.tell(Closed(talk.now_s)), CommitTurn).record
    assert (record.outcome, record.agent_text, record.user_text) == (Outcome.INTERRUPTED, "It rains", "")
    assert not talk.state.has_ended
    assert names(talk.committed(1)) == ["TurnEnded"]
    assert talk.state.has_ended
    assert talk.text("late") == () == talk.speak()


def test_a_closed_session_keeps_a_turn_that_was_over_as_it_was() -> None:
    talk = Talk()
    talk.say_turn()
    talk.reply()
    talk.heard_all()
    assert one(talk.tell(Closed(talk.now_s)), CommitTurn).record.outcome is Outcome.COMPLETED


def test_a_client_is_told_that_its_stream_will_be_closed() -> None:
    talk = Talk()
    effects = talk.tell(ClosingSoon(talk.now_s, GoAwayReason.DRAINING, 900, resumable=True))
    assert effects == (Emit(0, 1, GoAway(GoAwayReason.DRAINING, 900, resumable=True)),)


def kept(number: int, *, request_id: str = "", agent_text: str = "Fine.") -> TurnRecord:
    return TurnRecord(
        number, Origin.TEXT, f"question {number}", agent_text, Outcome.COMPLETED, 0, 0, request_id=request_id
    )


def test_another_replica_goes_on_where_the_first_one_was() -> None:
    past = Past(turns=(kept(1, request_id="a"), kept(2)), epoch=4, input_sample=32_000, at_s=100.0)
    talk = Talk(history=(Message(Role.USER, "hi"),), past=past)
    assert talk.text("a") == ()
    assert names(talk.tell(Resumed(talk.now_s))) == []
    start = one(talk.text("b"), StartReply)
    assert start.reply == ReplyId(3, 5)
    assert [message.content for message in start.context] == [
        "hi",
        "question 1",
        "Fine.",
        "question 2",
        "Fine.",
        "hello",
    ]
    assert one(talk.speak(), OpenUtterance).first_sample == 32_000


def test_another_replica_ends_the_turn_that_was_under_way_with_what_was_saved() -> None:
    past = Past(turns=(kept(1),), open_turn=kept(2, request_id="b", agent_text="It rains"), epoch=4, at_s=99.0)
    talk = Talk(past=past)
    record = one(talk.tell(Resumed(talk.now_s, Playback(2, 9000))), CommitTurn).record
    assert (record.number, record.outcome, record.agent_text) == (2, Outcome.INTERRUPTED, "It rains")
    assert (record.user_text, record.request_id, record.started_s) == ("question 2", "b", 99.0)
    assert talk.text("b") == ()
    assert one(talk.text("c"), StartReply).reply == ReplyId(3, 5)


def test_states_are_values_that_can_be_gone_back_to() -> None:
    talk = replying()
    before = talk.state
    interrupt(talk)
    assert talk.state != before
    talk.state = before
    assert all_of(interrupt(talk), Interrupted)


def test_a_stream_that_is_lost_is_not_ended_before_the_client_is_back() -> None:
    talk = replying(made=True)
    talk.heard_all()
    talk.end_input()
    talk.tell(Detached(talk.now_s))
    assert "EndStream" not in names(talk.committed(1))
    assert names(talk.tell(Resumed(talk.now_s))) == ["EndStream"]
