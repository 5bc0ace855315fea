"""A turn from being taken up to being kept."""

import pytest

from services.orchestrator.conversation import playout_lead_s
from services.orchestrator.conversation.effects import (
    CommitTurn,
    DropUtterance,
    EndUtterance,
    SaveOpenTurn,
    SetTimer,
    StartReply,
    Transcribe,
)
from services.orchestrator.conversation.events import OptionsChanged, ReplyId, Timer, Transcribed
from services.orchestrator.conversation.options import GenerationOptions, Options
from services.orchestrator.conversation.outputs import (
    InputReleased,
    Refused,
    ReplyAudio,
    ReplyEnded,
    ReplyStarted,
    ReplyText,
    Transcript,
    TurnEnded,
)
from services.orchestrator.conversation.playout import ACKNOWLEDGEMENT_GRACE_S
from services.orchestrator.conversation.record import (
    FirstAudioMarks,
    Message,
    Origin,
    Outcome,
    Role,
    UtteranceSpeech,
)
from services.shared.errors import InputEndedError, RoomUnavailableError, TooManyWaitingTurnsError
from tests.orchestrator.conversation.talk import WORK, Talk, all_of, names, one, spoken_context

pytestmark = pytest.mark.unit


def spoken() -> Talk:
    """A conversation whose first spoken turn is being answered."""
    talk = Talk()
    talk.say_turn()
    return talk


def test_a_turn_runs_from_reply_started_to_turn_ended() -> None:
    talk = Talk()
    effects = talk.text("a", "hello")
    assert names(effects) == ["StartReply", "ReplyStarted", "SaveOpenTurn"]
    assert names(talk.make_text("It rains.")) == ["ReplyText"]
    assert names(talk.make_audio(0, 1000, 9)) == ["ReplyAudio"]
    assert names(talk.made()) == ["ReplyEnded", "SetTimer"]
    assert names(talk.heard_all()) == ["CommitTurn"]
    assert names(talk.committed(1)) == ["TurnEnded"]


def test_a_reply_reads_prompt_history_and_turns_with_the_newest_speech_as_speech() -> None:
    history = (Message(Role.USER, "hi"), Message(Role.ASSISTANT, "Hello."))
    talk = Talk(Options(system_prompt="Be kind."), history=history)
    talk.text("a", "how are you")
    talk.reply("Fine.")
    talk.heard_all()
    talk.committed(1)
    talk.speak()
    assert spoken_context(talk.hush()) == (
        Message(Role.SYSTEM, "Be kind."),
        *history,
        Message(Role.USER, "how are you"),
        Message(Role.ASSISTANT, "Fine."),
        Message(Role.USER, UtteranceSpeech(1)),
    )


def test_speech_stands_as_speech_in_the_context_until_its_transcript_is_there() -> None:
    talk = spoken()
    talk.reply("One.")
    talk.heard_all()
    talk.speak()
    assert Message(Role.USER, UtteranceSpeech(1)) in spoken_context(talk.hush())
    talk.transcribed(1, "first")
    talk.reply("Two.")
    talk.heard_all()
    context = spoken_context(talk.text("x"))
    assert [message.content for message in context] == ["first", "One.", UtteranceSpeech(2), "Two.", "hello"]


def test_a_turn_without_words_leaves_no_empty_message_in_the_context() -> None:
    talk = Talk()
    talk.say()
    talk.reply("Welcome.")
    talk.heard_all()
    assert spoken_context(talk.text()) == (Message(Role.ASSISTANT, "Welcome."), Message(Role.USER, "hello"))


def test_what_is_said_word_for_word_asks_no_model() -> None:
    start = one(Talk().say("s", "Welcome."), StartReply)
    assert (start.context, start.words) == ((), "Welcome.")


def test_options_hold_from_the_next_reply() -> None:
    talk = Talk()
    talk.text("a")
    changed = Options(generation=GenerationOptions(max_new_tokens=9))
    assert names(talk.tell(OptionsChanged(talk.now_s, changed))) == ["SessionUpdated"]
    assert one(talk.text("b"), StartReply).options == changed


def test_text_and_samples_pass_to_the_client_as_they_are() -> None:
    talk = Talk()
    talk.text()
    assert one(talk.make_text("It"), ReplyText) == ReplyText("It")
    assert one(talk.make_audio(0, 500, 2), ReplyAudio) == ReplyAudio(0, 500, 2, b"samples")


def test_audio_never_claims_text_that_was_not_sent() -> None:
    talk = Talk()
    talk.text()
    talk.make_text("It")
    assert one(talk.make_audio(0, 500, 50), ReplyAudio).spoken_characters == 2
    assert one(talk.make_audio(500, 900, 1), ReplyAudio).spoken_characters == 2


def test_audio_that_leaves_a_gap_is_not_sent() -> None:
    talk = Talk()
    talk.text()
    talk.make_text("It")
    assert talk.make_audio(10, 500, 2) == ()
    assert talk.make_audio(0, 0, 0) == ()


def test_only_the_live_reply_is_sent() -> None:
    talk = Talk()
    talk.text("a")
    talk.text("b")
    for reply in (ReplyId(1, 1), ReplyId(2, 1), ReplyId(9, 2)):
        assert talk.make_text("old", reply) == ()
        assert talk.make_audio(0, 10, 1, reply=reply) == ()


def test_the_turn_ends_when_the_client_has_heard_the_reply() -> None:
    talk = Talk()
    talk.text()
    talk.reply(ms=1000)
    assert "CommitTurn" not in names(talk.acknowledge(1, 900))
    record = one(talk.acknowledge(1, 1000, underruns=1), CommitTurn).record
    assert (record.outcome, record.agent_text) == (Outcome.COMPLETED, "It rains today.")
    assert (record.metrics.heard_audio_ms, record.metrics.playout_underruns) == (1000, 1)


def test_the_turn_of_a_client_that_never_acknowledges_ends_by_the_clock() -> None:
    talk = Talk()
    talk.text()
    timer = one(talk.reply(ms=1000), SetTimer)
    assert timer == SetTimer(Timer.PLAYOUT, talk.now_s + 1)
    talk.wait(400)
    assert names(talk.time(Timer.PLAYOUT)) == ["SetTimer"]
    talk.wait(600)
    assert names(talk.time(Timer.PLAYOUT)) == ["CommitTurn"]


def test_the_turn_of_a_client_that_falls_silent_ends_too_and_the_next_goes_by_the_clock() -> None:
    talk = Talk()
    talk.text("a")
    talk.make_text("It rains.")
    talk.make_audio(0, 1000, 9)
    talk.acknowledge(1, 500)
    timer = one(talk.made(), SetTimer)
    assert timer.at_s == talk.now_s + 1 + ACKNOWLEDGEMENT_GRACE_S
    talk.now_s = timer.at_s or 0.0
    assert "CommitTurn" in names(talk.time(Timer.PLAYOUT))
    talk.text("b")
    assert one(talk.reply(ms=1000), SetTimer).at_s == talk.now_s + 1


def test_the_lead_is_what_was_sent_and_not_heard() -> None:
    talk = Talk()
    assert playout_lead_s(talk.state, talk.now_s) == 0
    talk.text()
    talk.make_text("It rains.")
    talk.make_audio(0, 1000, 9)
    assert playout_lead_s(talk.state, talk.now_s) == 1
    talk.acknowledge(1, 600)
    assert playout_lead_s(talk.state, talk.now_s) == 0.4


def test_the_next_reply_starts_when_the_former_was_heard_and_does_not_wait_for_turn_ended() -> None:
    talk = Talk()
    talk.text("a")
    assert "StartReply" not in names(talk.text("b", after_reply=True))
    assert "StartReply" not in names(talk.reply())
    assert names(talk.heard_all()) == ["StartReply", "ReplyStarted", "SaveOpenTurn", "CommitTurn"]


def test_turns_are_kept_and_end_in_their_order() -> None:
    talk = spoken()
    talk.reply()
    talk.heard_all()
    talk.text("b")
    talk.reply()
    assert "CommitTurn" not in names(talk.heard_all())
    assert one(talk.transcribed(1, "first"), CommitTurn).record.number == 1
    assert talk.committed(2) == ()
    effects = talk.committed(1)
    assert names(effects) == ["TurnEnded", "InputReleased", "CommitTurn"]
    assert one(effects, CommitTurn).record.number == 2
    assert one(talk.committed(2), TurnEnded).record.number == 2


def test_a_store_that_repeats_itself_ends_no_turn_twice() -> None:
    talk = Talk()
    talk.text()
    talk.reply()
    talk.heard_all()
    talk.committed(1)
    assert talk.committed(1) == ()


def test_the_transcript_is_asked_for_once_the_first_audio_was_sent() -> None:
    talk = spoken()
    assert not all_of(talk.make_text("It rains."), Transcribe)
    assert one(talk.make_audio(0, 500, 4), Transcribe) == Transcribe(1)
    assert not all_of(talk.make_audio(500, 900, 9) + talk.made(), Transcribe)


def test_the_transcript_of_a_reply_without_audio_is_asked_for_at_its_end() -> None:
    talk = spoken()
    assert names(talk.made()) == ["ReplyEnded", "Transcribe"]


def test_the_transcript_comes_before_its_turn_ends_and_the_turn_waits_for_it() -> None:
    talk = spoken()
    talk.reply()
    assert "CommitTurn" not in names(talk.heard_all())
    effects = talk.transcribed(1, "how is the weather")
    utterance = one(talk.effects, EndUtterance)
    assert names(effects) == ["Transcript", "DropUtterance", "CommitTurn"]
    assert one(effects, Transcript) == Transcript("how is the weather", True, 0, utterance.end_sample)
    assert one(effects, CommitTurn).record.user_text == "how is the weather"


def test_a_transcript_that_could_not_be_made_is_an_empty_one() -> None:
    talk = spoken()
    talk.reply()
    talk.heard_all()
    assert one(talk.transcribed(1, ""), CommitTurn).record.user_text == ""


def test_only_the_first_final_transcript_counts() -> None:
    talk = spoken()
    assert talk.tell(Transcribed(talk.now_s, 1, "how", is_final=False)) == ()
    talk.transcribed(1, "how is the weather")
    assert talk.transcribed(1, "again") == ()


def test_speech_is_forgotten_when_nobody_reads_it_any_more() -> None:
    talk = spoken()
    talk.reply("One.")
    talk.heard_all()
    talk.say_turn()
    assert "DropUtterance" not in names(talk.transcribed(1, "first"))
    assert one(talk.made(), DropUtterance) == DropUtterance(1)


def test_a_failed_reply_is_heard_as_far_as_it_was_sent_and_then_fails() -> None:
    talk = Talk()
    talk.text()
    talk.make_text("It rains today in Lisbon.")
    talk.make_audio(0, 1000, 8)
    error = RoomUnavailableError("the vocoder is gone")
    assert names(talk.failed(error)) == ["ReplyEnded", "SetTimer"]
    record = one(talk.heard_all(), CommitTurn).record
    assert (record.outcome, record.error, record.agent_text) == (Outcome.FAILED, error, "It rains")


def test_a_reply_that_fails_before_its_first_audio_ends_at_once() -> None:
    talk = Talk()
    talk.text()
    effects = talk.failed(RoomUnavailableError("the lm is gone"))
    assert names(effects) == ["ReplyEnded", "CommitTurn"]


def test_a_reply_without_audio_and_without_error_is_complete() -> None:
    talk = Talk()
    talk.text()
    talk.make_text("…")
    effects = talk.made()
    assert one(effects, ReplyEnded) == ReplyEnded(0, "…")
    assert one(effects, CommitTurn).record.outcome is Outcome.COMPLETED


def test_work_that_stops_unasked_ends_its_turn_as_failed() -> None:
    talk = Talk()
    talk.text()
    assert one(talk.stopped(ReplyId(1, 1)), CommitTurn).record.outcome is Outcome.FAILED


def test_a_record_tells_how_the_turn_came_when_and_what_it_took() -> None:
    talk = spoken()
    talk.reply()
    talk.wait(300)
    talk.heard_all()
    record = one(talk.transcribed(1, "hi"), CommitTurn).record
    assert record.origin is Origin.SPEECH
    assert record.started_s == pytest.approx(100.0)
    assert record.ended_s == pytest.approx(talk.now_s)
    assert record.metrics.work == WORK
    assert (record.metrics.user_audio_ms, record.metrics.reply_audio_ms) == (800, 1000)


def test_the_parts_of_the_first_silence_sum_to_it() -> None:
    talk = Talk()
    talk.speak(640)
    end_of_speech_s = talk.now_s
    talk.hush(704)
    asked_s = talk.now_s + 0.002
    talk.make_text("It rains.")
    talk.wait(400)
    marks = FirstAudioMarks(asked_s, asked_s + 0.05, asked_s + 0.15, asked_s + 0.25, asked_s + 0.35)
    talk.make_audio(0, 1000, 9, marks=marks)
    parts = talk.state.turns[0].first_audio
    assert parts is not None
    assert parts.total_s == pytest.approx(talk.now_s - end_of_speech_s, abs=1e-9)
    assert parts.endpointing_s == pytest.approx(0.704)
    assert parts.tokenizer_s == pytest.approx(0.05)
    assert (parts.lm_s, parts.tts_s, parts.vocoder_s) == pytest.approx((0.1, 0.1, 0.1))
    assert parts.orchestrator_s == pytest.approx(0.05)


def test_the_silence_before_a_written_turn_s_reply_begins_with_its_arrival() -> None:
    talk = Talk()
    talk.text()
    talk.make_text("It")
    talk.wait(250)
    talk.make_audio(0, 100, 2, marks=FirstAudioMarks(100, 100, 100.1, 100.1, 100.2))
    parts = talk.state.turns[0].first_audio
    assert parts is not None
    assert (parts.endpointing_s, parts.total_s) == pytest.approx((0, 0.25))


def test_the_open_turn_is_saved_at_its_start_and_by_the_clause() -> None:
    talk = spoken()
    text = "It rains today in Lisbon, and it will rain tomorrow, and the day after that as well."
    assert one(talk.effects, SaveOpenTurn).agent_text == ""
    talk.make_text(text)
    saved = []
    for index in range(20):
        saved += all_of(talk.make_audio(index * 100, index * 100 + 100, len(text) * (index + 1) // 20), SaveOpenTurn)
        saved += all_of(talk.acknowledge(1, index * 100 + 100), SaveOpenTurn)
    assert len(saved) == 2
    assert all(text.startswith(save.agent_text) for save in saved)
    assert one(talk.transcribed(1, "how is it"), SaveOpenTurn).user_text == "how is it"


def test_the_users_audio_is_released_at_the_turns_end() -> None:
    talk = spoken()
    talk.reply()
    talk.heard_all()
    talk.transcribed(1, "hi")
    assert one(talk.committed(1), InputReleased).before_sample >= one(talk.effects, EndUtterance).end_sample


def test_a_request_id_that_was_seen_is_ignored() -> None:
    talk = Talk()
    talk.text("a")
    assert talk.text("a") == ()
    assert talk.say("a") == ()


def test_greetings_have_no_request_id_and_are_never_ignored() -> None:
    talk = Talk()
    talk.say("")
    assert one(talk.say(""), ReplyStarted).request_id == ""


def test_turns_that_wait_are_answered_in_the_order_sent() -> None:
    talk = Talk()
    talk.text("a")
    talk.text("b", after_reply=True)
    talk.say("c", after_reply=True)
    started = []
    for _ in range(3):
        talk.reply()
        started += [event.request_id for event in all_of(talk.heard_all(), ReplyStarted)]
    assert started == ["b", "c"]


def test_the_ninth_waiting_turn_is_refused_and_may_be_sent_again() -> None:
    talk = Talk()
    talk.text("a")
    for index in range(8):
        assert "Refused" not in names(talk.text(f"w{index}", after_reply=True))
    talk.speak()
    effects = talk.text("late", after_reply=True)
    assert names(effects) == ["Refused"]
    assert isinstance(one(effects, Refused).error, TooManyWaitingTurnsError)
    talk.reply()
    talk.heard_all()
    assert "Refused" not in names(talk.text("late", after_reply=True))


def test_turns_after_the_end_of_input_are_refused() -> None:
    talk = Talk()
    talk.text("a")
    talk.end_input()
    assert isinstance(one(talk.text("b"), Refused).error, InputEndedError)
    assert isinstance(one(talk.say("c"), Refused).error, InputEndedError)
    assert talk.text("a") == ()


def test_after_the_end_of_input_everything_is_answered_heard_and_kept_before_the_stream_ends() -> None:
    talk = Talk()
    talk.text("a")
    talk.text("b", after_reply=True)
    talk.end_input()
    talk.reply()
    talk.heard_all()
    talk.committed(1)
    talk.reply()
    talk.heard_all()
    assert not talk.state.has_ended
    assert names(talk.committed(2)) == ["TurnEnded", "EndStream"]
    assert talk.state.has_ended
    assert talk.end_input() == ()


def test_the_end_of_input_of_an_empty_conversation_ends_the_stream() -> None:
    assert names(Talk().end_input()) == ["EndStream"]


def test_nothing_is_added_to_a_reply_that_was_said_to_be_complete() -> None:
    talk = Talk()
    talk.text()
    talk.reply(ms=1000)
    assert talk.make_text("more") == ()
    assert talk.make_audio(1000, 2000, 9) == ()


def test_an_acknowledgement_of_a_turn_that_is_over_changes_nothing() -> None:
    talk = spoken()
    talk.reply(ms=1000)
    talk.wait(1000)
    talk.time(Timer.PLAYOUT)
    before = talk.state
    assert talk.acknowledge(1, 500) == ()
    assert talk.state == before
