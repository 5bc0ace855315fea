"""A stream that is lost in mid-answer: the reply goes on from the acknowledged sample, here or on another replica."""

from dataclasses import replace

import pytest

from services.orchestrator.conversation import Past
from services.orchestrator.conversation.effects import (
    CancelReply,
    CommitTurn,
    Effect,
    Emit,
    ResumeReply,
    SaveOpenTurn,
    Transcribe,
)
from services.orchestrator.conversation.events import (
    Detached,
    Interrupt,
    Playback,
    ReplyId,
    ReplyTakenUp,
    Resumed,
)
from services.orchestrator.conversation.options import Options, VoiceOptions
from services.orchestrator.conversation.outputs import ReplyAudio, ReplyResumed, ReplyStarted, TurnEnded
from services.orchestrator.conversation.record import (
    Message,
    Origin,
    Outcome,
    ReplyBasis,
    Role,
    TurnRecord,
    Utterance,
    UtteranceSpeech,
)
from services.shared.errors import RoomUnavailableError
from tests.orchestrator.conversation.talk import Talk, all_of, names, one

pytestmark = pytest.mark.unit
TEXT = "It rains today in Lisbon."
FIRST, SECOND = ReplyId(1, 1), ReplyId(1, 2)


def replying() -> Talk:
    """A conversation in which 2 s of a reply were sent."""
    talk = Talk(Options(system_prompt="Be kind."), seed=5, resumes_replies=True)
    talk.text("a")
    talk.make_text(TEXT)
    talk.make_audio(0, 2000, len(TEXT))
    return talk


def lost(talk: Talk) -> Talk:
    talk.tell(Detached(talk.now_s))
    talk.wait(300)
    return talk


def resume(talk: Talk, played: int | None) -> tuple[Effect, ...]:
    number = talk.state.turns[-1].number
    return talk.tell(Resumed(talk.now_s, None if played is None else Playback(number, played)))


def take_up(talk: Talk, *, can_go_on: bool = True, spoken: int = 0) -> tuple[Effect, ...]:
    return talk.tell(ReplyTakenUp(talk.now_s, talk.live, can_go_on, spoken))


@pytest.mark.parametrize(("played", "first"), [(800, 800), (None, 0), (9999, 2000)])
def test_the_same_turn_goes_on_from_the_acknowledged_sample(played: int | None, first: int) -> None:
    talk = lost(replying())
    assert CancelReply(FIRST, may_resume=True) in talk.effects
    asked = one(resume(talk, played), ResumeReply)
    assert (asked.reply, asked.stopped, asked.first_sample, asked.text) == (SECOND, FIRST, first, TEXT)
    assert asked.context == (Message(Role.SYSTEM, "Be kind."), Message(Role.USER, "hello"))
    assert asked.seed is not None
    assert take_up(talk) == (Emit(1, 2, ReplyResumed(first, TEXT, Origin.TEXT, "a")),)
    assert one(talk.make_audio(first, 3000, 25), ReplyAudio).first_sample == first


def test_what_was_heard_before_and_after_is_one_reply() -> None:
    talk = lost(replying())
    talk.stopped(FIRST)
    resume(talk, 800)
    take_up(talk)
    talk.make_text(" Stay in.")
    talk.make_audio(800, 3000, 34)
    talk.made()
    record = one(talk.acknowledge(1, 3000), CommitTurn).record
    assert (record.outcome, record.agent_text) == (Outcome.COMPLETED, TEXT + " Stay in.")
    assert record.metrics.reply_audio_ms == 3000


def test_words_are_found_on_both_sides_of_the_place_where_it_goes_on() -> None:
    talk = lost(replying())
    talk.stopped(FIRST)
    resume(talk, 1000)
    take_up(talk)
    talk.make_audio(1000, 2000, 25)
    talk.tell(Interrupt(talk.now_s, Playback(1, 1500)))
    assert one(talk.stopped(SECOND), CommitTurn).record.agent_text == "It rains today in"


def test_nothing_is_sent_between_the_resume_and_the_shells_word() -> None:
    talk = lost(replying())
    resume(talk, 800)
    assert talk.make_audio(800, 900, 20) == ()
    assert talk.make_text("more") == ()


def test_audio_that_the_shell_has_no_more_ends_the_turn_with_what_was_heard() -> None:
    talk = lost(replying())
    talk.stopped(FIRST)
    resume(talk, 1000)
    record = one(take_up(talk, can_go_on=False), CommitTurn).record
    assert (record.outcome, record.agent_text) == (Outcome.INTERRUPTED, "It rains")


def test_a_reply_that_was_heard_to_its_end_is_not_spoken_again() -> None:
    talk = replying()
    talk.made()
    lost(talk)
    effects = resume(talk, 2000)
    assert not all_of(effects, ResumeReply)
    assert one(effects, CommitTurn).record.outcome is Outcome.COMPLETED


def test_a_reply_that_had_failed_does_not_go_on() -> None:
    talk = replying()
    talk.failed(RoomUnavailableError("gone"))
    lost(talk)
    assert one(resume(talk, 1000), CommitTurn).record.outcome is Outcome.FAILED


def test_a_stream_that_is_lost_again_and_again_tells_each_sample_once() -> None:
    talk = replying()
    talk.acknowledge(1, 500)
    for played in (700, 600, 900):
        lost(talk)
        asked = one(resume(talk, played), ResumeReply)
        take_up(talk)
        talk.make_audio(asked.first_sample, 2000, 25)
    assert [asked.first_sample for asked in all_of(talk.effects, ResumeReply)] == [700, 700, 900]
    assert talk.state.epoch == 4


def test_the_stream_that_is_lost_before_the_shells_word_can_be_resumed() -> None:
    talk = lost(replying())
    resume(talk, 800)
    lost(talk)
    talk.stopped(SECOND)
    assert one(resume(talk, 900), ResumeReply).first_sample == 800


def test_a_shell_that_says_it_cannot_after_the_stream_was_lost_again_lets_go() -> None:
    talk = lost(replying())
    talk.stopped(FIRST)
    resume(talk, 800)
    lost(talk)
    assert talk.tell(ReplyTakenUp(talk.now_s, SECOND, can_go_on=False)) == ()
    assert talk.state.turns[0].work is not None


def test_no_other_turn_begins_before_the_reply_that_goes_on_was_heard() -> None:
    talk = lost(replying())
    talk.text("b", after_reply=True)
    assert not all_of(resume(talk, 800), ReplyStarted)
    take_up(talk)
    talk.make_audio(800, 2000, 25)
    talk.made()
    assert one(talk.acknowledge(1, 2000), ReplyStarted).request_id == "b"


def test_what_another_replica_needs_is_saved_before_any_audio_speaks_it() -> None:
    talk = Talk(seed=5, resumes_replies=True)
    talk.say_turn()
    talk.make_text(TEXT)
    effects = talk.make_audio(0, 500, 8)
    assert names(effects)[:2] == ["SaveOpenTurn", "ReplyAudio"]
    basis = one(effects, SaveOpenTurn).basis
    assert basis is not None
    assert basis == ReplyBasis(TEXT, False, "", talk.state.turns[0].seed, Utterance(1, 0, 800 * 16))
    assert names(talk.make_audio(500, 900, 20)) == ["ReplyAudio"]
    talk.make_text(" Stay in.")
    assert names(talk.make_audio(900, 1500, 30))[:1] == ["SaveOpenTurn"]


def test_a_shell_that_cannot_go_on_saves_no_basis_and_ends_the_turn_as_before() -> None:
    talk = Talk()
    talk.text()
    talk.make_text(TEXT)
    talk.make_audio(0, 500, 8)
    assert {saved.basis for saved in all_of(talk.effects, SaveOpenTurn)} == {None}
    lost(talk)
    assert not all_of(resume(talk, 400), ResumeReply)


OPEN = TurnRecord(2, Origin.SPEECH, "", "It rains", Outcome.INTERRUPTED, 0.0, 0.0)
BASIS = ReplyBasis(TEXT, True, "", 77, Utterance(4, 1600, 16000))


def elsewhere(open_turn: TurnRecord = OPEN, basis: ReplyBasis | None = BASIS) -> Talk:
    """Another replica that has taken the session over."""
    said = TurnRecord(1, Origin.TEXT, "hi", "Hello.", Outcome.COMPLETED, 0.0, 1.0, request_id="a")
    past = Past((said,), open_turn, epoch=4, input_sample=20_000, at_s=100.0, basis=basis)
    return Talk(Options(voice=VoiceOptions(seed=1)), past=past, resumes_replies=True)


def test_another_replica_goes_on_in_mid_answer_from_what_was_saved() -> None:
    talk = elsewhere()
    effects = resume(talk, 1000)
    assert one(effects, Transcribe) == Transcribe(4)
    asked = one(effects, ResumeReply)
    assert (asked.reply, asked.first_sample, asked.text, asked.seed) == (ReplyId(2, 5), 1000, TEXT, 77)
    assert asked.is_text_complete
    assert asked.context[-1] == Message(Role.USER, UtteranceSpeech(4))
    assert one(take_up(talk, spoken=8), ReplyResumed).first_sample == 1000
    talk.make_audio(1000, 2000, 25)
    talk.made()
    talk.transcribed(4, "rain?")
    record = one(talk.acknowledge(2, 2000), CommitTurn).record
    assert (record.user_text, record.agent_text, record.outcome) == ("rain?", TEXT, Outcome.COMPLETED)
    assert one(talk.committed(2), TurnEnded)


def test_another_replica_that_is_interrupted_knows_the_words_before_it() -> None:
    talk = elsewhere()
    resume(talk, 1000)
    take_up(talk, spoken=8)
    talk.make_audio(1000, 2000, 25)
    talk.tell(Interrupt(talk.now_s, Playback(2, 1000)))
    assert talk.state.turns[0].agent_text == "It rains"


def test_another_replica_that_cannot_go_on_keeps_what_was_saved() -> None:
    talk = elsewhere()
    resume(talk, 1000)
    take_up(talk, can_go_on=False)
    record = one(talk.transcribed(4, "rain?"), CommitTurn).record
    assert (record.outcome, record.agent_text, record.user_text) == (Outcome.INTERRUPTED, "It rains", "rain?")


def test_speech_after_a_take_over_has_a_number_of_its_own() -> None:
    talk = elsewhere()
    resume(talk, 1000)
    talk.speak()
    assert talk.state.user.utterance == 5


def test_what_was_said_word_for_word_goes_on_word_for_word() -> None:
    said = replace(OPEN, origin=Origin.SAY, request_id="s")
    talk = elsewhere(said, ReplyBasis("Welcome.", True, "Welcome.", 3, None))
    asked = one(resume(talk, 100), ResumeReply)
    assert (asked.words, asked.context) == ("Welcome.", ())


def test_a_turn_of_which_nothing_can_go_on_ends_as_before() -> None:
    talk = elsewhere(basis=None)
    assert one(resume(talk, 1000), CommitTurn).record.outcome is Outcome.INTERRUPTED
