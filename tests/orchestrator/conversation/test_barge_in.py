"""Speech into a reply: what interrupts, what does not, and what goes on after all."""

from dataclasses import replace

import pytest

from services.orchestrator.conversation.effects import (
    CancelReply,
    CommitTurn,
    DropUtterance,
    Effect,
    Emit,
    EndUtterance,
    ResumeReply,
    SetTimer,
    StartReply,
    Transcribe,
)
from services.orchestrator.conversation.events import (
    Detached,
    Interrupt,
    Playback,
    ReplyFailed,
    ReplyId,
    ReplyTakenUp,
    Resumed,
    Timer,
    Transcribed,
)
from services.orchestrator.conversation.options import BargeInOptions, Options, SpeculationOptions, TurnTakingOptions
from services.orchestrator.conversation.outputs import (
    Interrupted,
    InterruptionReason,
    ReplyAudio,
    ReplyEnded,
    ReplyResumed,
    ReplyText,
)
from services.orchestrator.conversation.record import Outcome
from services.shared.errors import GenerationError
from tests.orchestrator.conversation.talk import WORK, Talk, all_of, names, one

pytestmark = pytest.mark.unit
TEXT = "It rains today in Lisbon."
FIRST, SECOND = ReplyId(1, 1), ReplyId(1, 2)
HEARD = 767
"""Of 768 ms: the clock counts whole samples."""


def options(**knobs: bool | int) -> Options:
    barge_in = replace(BargeInOptions(enabled=True), **knobs)  # type: ignore[arg-type]  # their own types
    return Options(turn_taking=TurnTakingOptions(barge_in=barge_in))


def replying(chosen: Options) -> Talk:
    """A conversation in which 4 s of a reply were sent and 0.5 s are heard."""
    talk = Talk(chosen)
    talk.text("a")
    talk.make_text(TEXT)
    talk.make_audio(0, 4000, len(TEXT))
    talk.hush(512)
    return talk


def interrupted(chosen: Options | None = None) -> Talk:
    """Speech of 256 ms has stopped the reply, and pauses."""
    talk = replying(chosen or options(false_interruption_ms=1000))
    assert one(talk.speak(256), Interrupted).reason is InterruptionReason.SPEECH
    talk.hush(224)
    return talk


def words(talk: Talk, text: str, utterance: int = 1) -> tuple[Effect, ...]:
    event = Transcribed(talk.now_s, utterance, text, is_final=False, end_sample=talk.heard)
    return talk.tell(event)


def over(talk: Talk, ms: int = 1000) -> tuple[Effect, ...]:
    """The time of the trial is over."""
    talk.wait(ms)
    return talk.time(Timer.FALSE_INTERRUPTION)


def taken_up(talk: Talk, *, can_go_on: bool = True) -> tuple[Effect, ...]:
    assert talk.state.live is not None
    return talk.tell(ReplyTakenUp(talk.now_s, talk.live, can_go_on))


def test_confirmed_speech_stops_the_reply_in_a_new_epoch() -> None:
    talk = replying(options())
    assert "Interrupted" not in names(talk.speak(224))
    effects = talk.speak(32)
    assert effects[:2] == (CancelReply(FIRST), Emit(1, 2, Interrupted(InterruptionReason.SPEECH, HEARD)))
    assert talk.make_audio(4000, 5000, 25, reply=FIRST) == ()


def test_what_interrupted_is_the_next_turn() -> None:
    talk = replying(options())
    talk.speak(640)
    started = one(talk.hush(960), StartReply)
    assert started.reply == ReplyId(2, 2)
    assert [message.content for message in started.context[:-1]] == ["hello", "It"]


def test_speech_does_not_interrupt_where_it_may_not() -> None:
    talk = replying(Options())
    talk.speak(960)
    assert talk.live == FIRST


def test_speech_shorter_than_an_interruption_is_answered_when_the_reply_was_heard() -> None:
    talk = replying(options())
    talk.speak(160)
    talk.hush(960)
    assert talk.live == FIRST
    talk.made()
    assert one(talk.heard_all(), StartReply).reply == ReplyId(2, 1)


def test_a_reply_that_nobody_has_heard_yet_is_stopped_by_a_user_who_goes_on() -> None:
    talk = Talk(options())
    talk.speak()
    talk.hush(960)
    assert one(talk.speak(256), Interrupted).heard_samples == 0


def test_speech_before_a_reply_began_does_not_count_against_it() -> None:
    talk = Talk(options())
    talk.speak()
    talk.say()
    assert "Interrupted" not in names(talk.speak(224))
    assert "Interrupted" in names(talk.speak(32))


def test_each_interruption_by_words_ends_the_turn_as_any_other() -> None:
    talk = interrupted()
    talk.stopped(FIRST)
    assert SetTimer(Timer.FALSE_INTERRUPTION, None) in words(talk, "stop that")
    record = one(talk.acknowledge(1, 1000), CommitTurn).record
    assert (record.outcome, record.agent_text) == (Outcome.INTERRUPTED, "It")
    assert not all_of(over(talk), ResumeReply)


def test_during_a_trial_no_turn_is_answered_and_words_set_it_free() -> None:
    talk = interrupted(options(false_interruption_ms=3000))
    talk.hush(960)
    assert all_of(talk.effects, EndUtterance)
    assert len(all_of(talk.effects, StartReply)) == 1
    assert one(words(talk, "wait"), StartReply).reply == ReplyId(2, 2)


def test_without_words_the_same_turn_goes_on_from_the_first_sample_that_was_not_heard() -> None:
    talk = interrupted()
    talk.stopped(FIRST)
    assert all_of(talk.effects, Transcribe)
    assert words(talk, "") == ()
    effects = over(talk)
    assert names(effects) == ["DropUtterance", "ResumeReply"]
    resume = one(effects, ResumeReply)
    assert (resume.reply, resume.stopped, resume.first_sample, resume.text) == (SECOND, FIRST, HEARD, TEXT)
    assert not resume.is_text_complete
    assert taken_up(talk)[0] == Emit(1, 2, ReplyResumed(HEARD, TEXT, talk.state.turns[0].asked.origin, "a"))
    assert one(talk.make_audio(HEARD, 4000, 25), ReplyAudio).first_sample == HEARD
    assert one(talk.make_text(" And Porto."), ReplyText).text == " And Porto."
    ended = one(talk.made(), ReplyEnded)
    assert (ended.total_samples, ended.text) == (4000, TEXT + " And Porto.")
    talk.wait(5000)
    record = one(talk.time(Timer.PLAYOUT), CommitTurn).record
    assert (record.outcome, record.metrics.work.text_tokens) == (Outcome.COMPLETED, 2 * WORK.text_tokens)
    assert record.metrics.playout_underruns == 0


def test_the_work_that_was_stopped_counts_even_if_it_lets_go_later() -> None:
    talk = interrupted()
    words(talk, "")
    over(talk)
    taken_up(talk)
    talk.make_audio(HEARD, 4000, 25)
    talk.made()
    talk.acknowledge(1, 4000)
    assert not all_of(talk.effects, CommitTurn)
    assert one(talk.stopped(FIRST), CommitTurn).record.metrics.work.speech_tokens == 2 * WORK.speech_tokens


def test_what_the_client_says_it_heard_is_where_the_reply_goes_on() -> None:
    talk = interrupted()
    talk.acknowledge(1, 600)
    words(talk, "")
    assert one(over(talk), ResumeReply).first_sample == 600


def test_a_cough_that_was_over_at_once_needs_no_transcript() -> None:
    talk = interrupted()
    assert one(over(talk), ResumeReply)


def test_longer_speech_whose_words_are_not_known_waits_for_them_as_long_as_its_turn_is_open() -> None:
    talk = replying(options(false_interruption_ms=300))
    talk.speak(480)
    talk.hush(224)
    assert over(talk, 0) == ()
    assert one(words(talk, ""), ResumeReply)
    other = replying(options(false_interruption_ms=300))
    other.speak(480)
    assert one(other.hush(960), StartReply).reply == ReplyId(2, 2)


def test_a_user_who_still_speaks_at_the_end_of_the_trial_has_interrupted() -> None:
    talk = replying(options(false_interruption_ms=300))
    talk.speak(640)
    over(talk, 0)
    assert talk.state.trial is None
    assert not all_of(talk.effects, ResumeReply)


def test_a_reply_that_cannot_go_on_ends_as_interrupted() -> None:
    talk = interrupted()
    talk.stopped(FIRST)
    words(talk, "")
    over(talk)
    effects = taken_up(talk, can_go_on=False)
    assert one(effects, CommitTurn).record.outcome is Outcome.INTERRUPTED
    assert not all_of(effects, ReplyResumed)


def test_a_reply_that_fails_before_it_goes_on_ends_as_failed_and_tells_of_no_end() -> None:
    talk = interrupted()
    talk.stopped(FIRST)
    words(talk, "")
    over(talk)
    effects = talk.tell(ReplyFailed(talk.now_s, SECOND, GenerationError("none"), WORK))
    assert names(effects) == ["CommitTurn"]


def test_a_reply_that_was_complete_goes_on_without_more_text() -> None:
    talk = replying(options(false_interruption_ms=1000))
    talk.made()
    talk.speak(256)
    talk.hush(224)
    words(talk, "")
    assert one(over(talk), ResumeReply).is_text_complete


def test_a_reply_that_goes_on_can_be_interrupted_again() -> None:
    talk = interrupted()
    words(talk, "")
    over(talk)
    taken_up(talk)
    talk.make_audio(HEARD, 4000, 25)
    assert one(talk.speak(256), Interrupted).heard_samples in (HEARD + 255, HEARD + 256)
    assert talk.state.epoch == 3


@pytest.mark.parametrize("what", ["interrupt", "text", "detached"])
def test_the_client_has_the_last_word_about_a_reply_on_trial(what: str) -> None:
    talk = interrupted()
    match what:
        case "interrupt":
            talk.tell(Interrupt(talk.now_s, Playback(1, 700)))
        case "text":
            assert one(talk.text("b"), StartReply).reply == ReplyId(2, 2)
        case _:
            talk.tell(Detached(talk.now_s))
            talk.tell(Resumed(talk.now_s, Playback(1, 700)))
    assert talk.state.trial is None
    words(talk, "")
    assert not all_of(over(talk), ResumeReply)


def test_a_reply_prepared_during_a_trial_is_thrown_away_when_the_old_one_goes_on() -> None:
    chosen = options(false_interruption_ms=1000)
    taking = replace(chosen.turn_taking, speculation=SpeculationOptions(enabled=True))
    talk = interrupted(replace(chosen, turn_taking=taking))
    prepared = all_of(talk.effects, StartReply)[-1]
    assert prepared.is_speculative
    words(talk, "")
    assert names(over(talk)) == ["CancelReply", "DropUtterance", "ResumeReply"]


LISTENING = options(ignore_back_channels=True, min_speech_ms=512, false_interruption_ms=1000)


def test_a_back_channel_neither_interrupts_nor_is_a_turn() -> None:
    talk = replying(LISTENING)
    talk.speak(320)
    talk.hush(224)
    assert one(talk.effects, Transcribe)
    assert words(talk, "Mm-hm.") == (DropUtterance(1),)
    talk.hush(960)
    assert talk.live == FIRST
    assert not talk.state.waiting


def test_a_short_word_that_is_none_interrupts_as_soon_as_it_is_known() -> None:
    talk = replying(LISTENING)
    talk.speak(320)
    talk.hush(224)
    assert one(words(talk, "Stop!"), Interrupted).reason is InterruptionReason.SPEECH
    assert not all_of(over(talk), ResumeReply)
    assert one(talk.hush(960), StartReply).reply == ReplyId(2, 2)


def test_a_short_word_that_is_known_after_its_turn_has_ended_interrupts_and_is_answered_at_once() -> None:
    talk = replying(LISTENING)
    talk.speak(320)
    talk.hush(960)
    assert one(words(talk, "Stop!"), StartReply).reply == ReplyId(2, 2)


def test_a_back_channel_whose_turn_has_ended_meanwhile_is_forgotten_too() -> None:
    talk = replying(LISTENING)
    talk.speak(320)
    talk.hush(960)
    assert len(talk.state.waiting) == 1
    assert words(talk, "yeah") == (DropUtterance(1),)
    assert not talk.state.waiting


def test_speech_that_goes_on_beyond_the_hold_interrupts_without_its_words() -> None:
    talk = replying(LISTENING)
    assert "Interrupted" not in names(talk.speak(480))
    assert "Interrupted" in names(talk.speak(32))


def test_a_long_back_channel_interrupts_and_the_reply_goes_on() -> None:
    talk = replying(LISTENING)
    talk.speak(640)
    talk.hush(224)
    words(talk, "yeah, yeah")
    assert one(over(talk), ResumeReply)


def test_where_listeners_sounds_count_they_wait_for_their_answer() -> None:
    talk = replying(options(min_speech_ms=512))
    talk.speak(320)
    talk.hush(224)
    assert not all_of(talk.effects, Transcribe)
    assert words(talk, "mm-hm") == ()
    talk.hush(960)
    assert len(talk.state.waiting) == 1
