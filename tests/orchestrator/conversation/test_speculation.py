"""Replies that are prepared at a pause, and what becomes of them."""

from dataclasses import replace

import pytest

from services.orchestrator.conversation.effects import (
    CancelReply,
    CommitReply,
    CommitTurn,
    Effect,
    RunTool,
    StartReply,
)
from services.orchestrator.conversation.events import (
    Detached,
    OptionsChanged,
    Playback,
    ReplyId,
    ReplyMade,
    Resumed,
    SpeculationAllowed,
    ToolCallMade,
    TurnJudged,
)
from services.orchestrator.conversation.options import (
    BargeInOptions,
    EndpointingMode,
    EndpointingOptions,
    GenerationOptions,
    Options,
    SpeculationOptions,
    Tool,
    ToolExecutor,
    TurnTakingOptions,
)
from services.orchestrator.conversation.outputs import Output, ReplyAudio, ReplyStarted, ReplyText
from services.orchestrator.conversation.record import FirstAudioMarks, ReplyWork, ToolCall, UtteranceSpeech
from services.orchestrator.conversation.state import playout_lead_s
from services.shared.errors import GenerationError
from tests.orchestrator.conversation.talk import WORK, Talk, all_of, names, one, outputs

pytestmark = pytest.mark.unit
TEXT = "It rains today."
AHEAD = Options(turn_taking=TurnTakingOptions(speculation=SpeculationOptions(enabled=True)))


def paused(options: Options = AHEAD) -> Talk:
    """A conversation whose user has just begun to pause."""
    talk = Talk(options)
    talk.speak()
    talk.hush(224)
    return talk


def prepared(talk: Talk, *, ms: int = 400) -> ReplyId:
    """The work has made the beginning of the prepared reply."""
    assert talk.state.ahead.speculation is not None
    reply = talk.state.ahead.speculation.reply
    assert talk.make_text(TEXT, reply) == ()
    assert talk.make_audio(0, ms, 6, reply=reply) == ()
    return reply


def test_at_a_pause_a_reply_is_started_that_reads_the_open_utterance_up_to_its_tail() -> None:
    talk = Talk(AHEAD)
    talk.speak()
    effects = talk.hush(224)
    started = one(effects, StartReply)
    assert started.reply == ReplyId(1, 1)
    assert started.is_speculative
    assert started.context[-1].content == UtteranceSpeech(1, (640 + 160) * 16)
    assert names(effects) == ["SpeechStopped", "StartReply"]


def answered_once(first_audio_ms: int, options: Options) -> Talk:
    """A conversation whose first reply took so long to its first audio."""
    talk = Talk(options)
    talk.text()
    talk.make_text(TEXT)
    asked_s = talk.now_s
    marks = FirstAudioMarks(asked_s, asked_s, asked_s, asked_s, asked_s + first_audio_ms / 1000)
    talk.make_audio(0, 400, 6, marks=marks)
    talk.made()
    talk.heard_all()
    return talk


def prepared_after_ms(talk: Talk) -> int:
    """Of silence; 0 for never, if the turn ends before."""
    talk.speak()
    for frame in range(1, 100):
        effects = talk.hush(32)
        if all_of(effects, StartReply):
            return 32 * frame if one(effects, StartReply).is_speculative else 0
    return 0


@pytest.mark.parametrize(
    ("first_audio_ms", "complete_ms", "silence_ms"),
    [(500, 1200, 640), (500, 700, 224), (900, 1200, 256), (2000, 1200, 224), (0, 1200, 1152)],
)
def test_it_is_begun_as_late_as_it_can_be_and_still_be_ready_when_the_turn_ends(
    first_audio_ms: int, complete_ms: int, silence_ms: int
) -> None:
    idle = EndpointingOptions(complete_silence_ms=complete_ms)
    ahead = replace(AHEAD, turn_taking=replace(AHEAD.turn_taking, while_idle=idle))
    assert prepared_after_ms(answered_once(first_audio_ms, ahead)) == silence_ms


def test_until_it_is_known_what_the_rooms_take_it_is_begun_at_the_pause() -> None:
    idle = EndpointingOptions(complete_silence_ms=1200)
    assert prepared_after_ms(Talk(replace(AHEAD, turn_taking=replace(AHEAD.turn_taking, while_idle=idle)))) == 224


def test_where_the_silence_is_the_callers_own_it_is_not_begun_before_the_usual_pause_is_over() -> None:
    idle = EndpointingOptions(complete_silence_ms=1200, adapt_to_caller=True)
    ahead = replace(AHEAD, turn_taking=replace(AHEAD.turn_taking, while_idle=idle))
    assert prepared_after_ms(Talk(ahead)) == 480
    assert prepared_after_ms(answered_once(900, ahead)) == 480
    assert prepared_after_ms(answered_once(300, ahead)) == 864


def test_a_turn_that_sounds_finished_is_prepared_for_at_once_and_another_one_late() -> None:
    ahead = replace(AHEAD, turn_taking=replace(AHEAD.turn_taking, mode=EndpointingMode.TURN_MODEL))
    late, soon = (answered_once(500, ahead) for _ in range(2))
    assert prepared_after_ms(late) == 1440
    soon.speak()
    assert not all_of(soon.hush(320), StartReply)
    assert one(soon.tell(TurnJudged(soon.now_s, 1, soon.heard, 0.9)), StartReply).is_speculative


def test_a_pause_that_is_over_before_it_is_time_costs_nothing() -> None:
    idle = EndpointingOptions(complete_silence_ms=1200)
    ahead = replace(AHEAD, turn_taking=replace(AHEAD.turn_taking, while_idle=idle))
    talk = answered_once(500, ahead)
    talk.speak()
    effects = talk.hush(576) + talk.speak() + talk.hush(1216)
    assert len(all_of(effects, StartReply)) == 1
    assert one(effects, CommitReply)


def test_a_session_that_does_not_ask_for_it_prepares_nothing() -> None:
    assert "StartReply" not in names(paused(Options()).effects)


def test_nothing_of_a_prepared_reply_is_told_before_the_turn_has_ended() -> None:
    talk = paused()
    told = len(outputs(talk.effects))
    prepared(talk)
    assert len(outputs(talk.effects)) == told


def test_the_end_of_the_turn_commits_it_and_sends_all_that_was_made_in_the_promised_order() -> None:
    talk = paused()
    reply = prepared(talk)
    effects = talk.hush(512)
    assert names(effects) == [
        "EndUtterance",
        "CommitReply",
        "ReplyStarted",
        "SaveOpenTurn",
        "ReplyText",
        "ReplyAudio",
        "Transcribe",
    ]
    assert one(effects, CommitReply).reply == talk.live == reply
    assert one(effects, ReplyText).text == TEXT
    assert one(effects, ReplyAudio).end_sample == 400


def test_after_its_commit_a_prepared_reply_goes_on_as_any_other() -> None:
    talk = paused()
    prepared(talk)
    talk.hush(512)
    assert names(talk.make_audio(400, 900, 15)) == ["ReplyAudio"]
    assert names(talk.made()) == ["ReplyEnded", "SetTimer"]


def test_a_prepared_reply_that_is_complete_ends_with_its_commit() -> None:
    talk = paused()
    reply = prepared(talk)
    talk.made(reply)
    assert names(talk.hush(512))[-1] == "SetTimer"
    assert talk.state.live is not None
    assert talk.state.live.is_sent


def test_speech_that_goes_on_cancels_it_and_the_next_pause_prepares_another_under_its_own_id() -> None:
    talk = paused()
    first = prepared(talk)
    assert one(talk.speak(96), CancelReply).reply == first
    second = one(talk.hush(224), StartReply).reply
    assert second == ReplyId(1, 1, 1)
    assert talk.make_audio(400, 800, 9, reply=first) == ()
    assert one(talk.hush(512), CommitReply).reply == second
    assert talk.make_text("late", first) == ()


def test_a_reply_to_speech_that_was_never_prepared_has_an_id_of_its_own_too() -> None:
    talk = paused(replace(AHEAD, turn_taking=replace(AHEAD.turn_taking, speculation=SpeculationOptions(True, 1))))
    talk.speak(96)
    assert one(talk.hush(960), StartReply).reply == ReplyId(1, 1, 1)


def test_no_more_are_prepared_for_one_turn_than_may_be() -> None:
    talk = paused()
    for _ in range(6):
        talk.speak(96)
        talk.hush(224)
    assert sum(started.is_speculative for started in all_of(talk.effects, StartReply)) == 4


def test_each_pause_prepares_once_even_if_it_failed() -> None:
    talk = paused()
    assert talk.failed(GenerationError("none"), ReplyId(1, 1)) == ()
    assert not all_of(talk.hush(224), StartReply)
    started = one(talk.hush(288), StartReply)
    assert (started.reply, started.is_speculative) == (ReplyId(1, 1, 1), False)


def test_while_the_tenants_budget_is_used_up_none_is_prepared_and_the_turn_says_so() -> None:
    talk = Talk(AHEAD)
    talk.tell(SpeculationAllowed(talk.now_s, is_allowed=False))
    talk.speak()
    assert not all_of(talk.hush(224), StartReply)
    talk.hush(512)
    assert talk.state.live is not None
    assert talk.state.live.speculation.withheld == 1
    talk.tell(SpeculationAllowed(talk.now_s, is_allowed=True))
    talk.reply()
    talk.heard_all()
    talk.speak()
    assert one(talk.hush(224), StartReply).is_speculative


def test_during_a_reply_nothing_is_prepared_and_at_its_end_the_pause_still_counts() -> None:
    talk = Talk(AHEAD)
    talk.text()
    talk.reply()
    talk.speak()
    assert not all_of(talk.hush(224), StartReply)
    assert one(talk.heard_all(), StartReply).is_speculative


@pytest.mark.parametrize("what", ["text", "say", "detached", "options"])
def test_it_is_thrown_away_where_something_else_comes_first(what: str) -> None:
    talk = paused()
    reply = prepared(talk)
    effects: tuple[Effect, ...]
    match what:
        case "text":
            effects = talk.text()
        case "say":
            effects = talk.say()
        case "detached":
            effects = talk.tell(Detached(talk.now_s))
        case _:
            talk.tell(OptionsChanged(talk.now_s, replace(AHEAD, generation=GenerationOptions(temperature=0.5))))
            effects = talk.hush(512)
    assert one(effects, CancelReply).reply == reply
    assert not all_of(effects, CommitReply)
    assert not [output for output in outputs(effects) if isinstance(output, ReplyText | ReplyAudio)]


def test_a_change_of_turn_taking_alone_throws_nothing_away() -> None:
    talk = paused()
    reply = prepared(talk)
    slower = replace(AHEAD.turn_taking, max_utterance_ms=20_000)
    talk.tell(OptionsChanged(talk.now_s, replace(AHEAD, turn_taking=slower)))
    assert one(talk.hush(512), CommitReply).reply == reply


def test_what_read_another_part_of_the_last_reply_than_was_heard_is_not_committed() -> None:
    talk = Talk(replace(AHEAD, turn_taking=replace(AHEAD.turn_taking, barge_in=BargeInOptions(enabled=True))))
    talk.text()
    talk.make_text(TEXT)
    talk.make_audio(0, 2000, len(TEXT))
    talk.acknowledge(1, 0)
    talk.speak(320)
    assert [message.content for message in one(talk.hush(224), StartReply).context[:-1]] == ["hello"]
    talk.acknowledge(1, 1200)
    effects = talk.hush(512)
    assert one(effects, CancelReply).reply == ReplyId(2, 2)
    assert one(effects, StartReply).context[1].content == "It rains"


def test_letting_go_of_the_button_commits_what_was_prepared_at_a_pause() -> None:
    manual = replace(AHEAD, turn_taking=replace(AHEAD.turn_taking, mode=EndpointingMode.MANUAL))
    talk = paused(manual)
    reply = prepared(talk)
    assert one(talk.end_turn(), CommitReply).reply == reply


def test_a_function_is_called_only_when_the_reply_is_committed() -> None:
    tool = Tool("pay", "Pays.", executor=ToolExecutor.HTTP_ENDPOINT, registered_as="bank")
    talk = paused(replace(AHEAD, tools=(tool,)))
    reply = prepared(talk)
    call = ToolCall("c1", "pay", "{}")
    assert talk.tell(ToolCallMade(talk.now_s, reply, call)) == ()
    assert one(talk.hush(512), RunTool) == RunTool(reply, call, tool)


def test_the_shell_is_told_how_far_it_has_worked_ahead() -> None:
    talk = paused()
    prepared(talk, ms=400)
    assert playout_lead_s(talk.state, talk.now_s) == 0.4


def test_a_turn_counts_what_was_prepared_for_it_and_waits_until_it_is_known() -> None:
    talk = paused()
    first = prepared(talk)
    talk.speak(96)
    talk.hush(224)
    talk.hush(512)
    talk.reply()
    talk.heard_all()
    talk.transcribed(1, "rain?")
    assert not all_of(talk.effects, CommitTurn)
    done = one(talk.stopped(first), CommitTurn).record.metrics.speculation
    assert (done.started, done.committed, done.discarded) == (2, 1, 1)
    assert done.wasted_tokens == WORK.text_tokens + WORK.speech_tokens


def test_tokens_of_a_reply_that_was_complete_when_it_was_thrown_away_are_wasted_too() -> None:
    talk = paused()
    talk.tell(ReplyMade(talk.now_s, ReplyId(1, 1), ReplyWork(text_tokens=10, speech_tokens=90)))
    assert not all_of(talk.speak(96), CancelReply)
    assert talk.state.ahead.tally.wasted_tokens == 100


@pytest.mark.parametrize(("audio_ms", "saved"), [(300, 300), (900, 480)])
def test_saved_is_how_much_later_the_first_audio_had_come_without(audio_ms: int, saved: int) -> None:
    talk = paused()
    asked_s = talk.now_s
    reply = ReplyId(1, 1)
    marks = FirstAudioMarks(asked_s, asked_s, asked_s + 0.1, asked_s + 0.2, asked_s + audio_ms / 1000)
    talk.make_text(TEXT, reply)
    if audio_ms < 480:
        talk.make_audio(0, 400, 6, reply=reply, marks=marks)
    talk.hush(480)
    if audio_ms > 480:
        talk.now_s = marks.audio_s
        talk.make_audio(0, 400, 6, reply=reply, marks=marks)
    turn = talk.state.live
    assert turn is not None
    assert turn.first_audio is not None
    assert abs(turn.speculation.saved_ms - saved) <= 1
    assert turn.first_audio.total_s == pytest.approx(talk.now_s - turn.asked.ended_s)
    assert turn.first_audio.orchestrator_s == pytest.approx(0)


def test_the_seed_of_a_turn_is_the_same_for_a_prepared_reply_and_a_plain_one() -> None:
    ahead, plain = Talk(AHEAD, seed=7), Talk(seed=7)
    for talk in (ahead, plain):
        talk.say_turn()
    seeds = {one(talk.effects, StartReply).seed for talk in (ahead, plain)}
    assert len(seeds) == 1
    assert None not in seeds


def test_a_committed_turn_tells_the_client_what_a_plain_one_does() -> None:
    def told(options: Options) -> list[Output]:
        talk = Talk(options)
        talk.speak()
        talk.hush(960)
        talk.reply()
        talk.acknowledge(1, 1000)
        talk.transcribed(1, "rain?")
        talk.committed(1)
        return [output for output in outputs(talk.effects) if not isinstance(output, ReplyStarted)]

    assert [type(output) for output in told(AHEAD)] == [type(output) for output in told(Options())]


def test_a_resume_waits_for_the_next_pause() -> None:
    talk = paused()
    talk.tell(Detached(talk.now_s))
    assert not all_of(talk.tell(Resumed(talk.now_s, Playback(1, 0))), StartReply)
