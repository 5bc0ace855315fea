"""Functions that the model calls while the agent speaks."""

from dataclasses import replace

import pytest

from services.orchestrator.conversation.effects import (
    CancelTool,
    CommitTurn,
    Effect,
    ResumeReply,
    RunTool,
    SaveOpenTurn,
    SetTimer,
    StartReply,
)
from services.orchestrator.conversation.events import (
    Closed,
    Detached,
    Interrupt,
    Playback,
    ReplyId,
    ReplyTakenUp,
    Resumed,
    Timer,
    ToolAnswered,
    ToolCallMade,
)
from services.orchestrator.conversation.history import KEPT_RESULT_CHARACTERS
from services.orchestrator.conversation.options import Options, Tool, ToolExecutor
from services.orchestrator.conversation.outputs import (
    Refused,
    ReplyAudio,
    ReplyEnded,
    ToolCallEnded,
    ToolCallRequested,
)
from services.orchestrator.conversation.record import (
    Message,
    Outcome,
    Role,
    ToolCall,
    ToolExchange,
    ToolOutcome,
    ToolResult,
)
from services.orchestrator.conversation.tables import AgentState
from services.orchestrator.conversation.tools import MAX_CALLS, REPEATED_AFTER_S
from services.shared.errors import GenerationError, ToolCallNotFoundError
from tests.orchestrator.conversation.talk import Talk, all_of, names, one

pytestmark = pytest.mark.unit
HERE = Tool("weather", "Tells the weather.", timeout_ms=2000)
THERE = Tool("pay", "Pays.", timeout_ms=3000, executor=ToolExecutor.HTTP_ENDPOINT, registered_as="bank")
OPTIONS = Options(tools=(HERE, THERE))
CALL = ToolCall("c1", "weather", '{"city":"Lisbon"}')
PART = ReplyId(1, 1)


def call(talk: Talk, made: ToolCall = CALL, problem: str = "") -> tuple[Effect, ...]:
    return talk.tell(ToolCallMade(talk.now_s, talk.live, made, problem))


def answer(talk: Talk, call_id: str = "c1", text: str = "rain", *, is_error: bool = False) -> tuple[Effect, ...]:
    return talk.tell(ToolAnswered(talk.now_s, call_id, text, is_error, from_client=call_id == "c1"))


def calling(*, resumes_replies: bool = False) -> Talk:
    """A reply has said a sentence, and called a function."""
    talk = Talk(OPTIONS, resumes_replies=resumes_replies)
    talk.text("a", "Will it rain?")
    talk.make_text("Let me see.")
    talk.make_audio(0, 1000, 11)
    call(talk)
    return talk


def test_the_client_is_asked_to_run_its_function_and_the_agent_keeps_speaking() -> None:
    talk = calling()
    assert one(talk.effects, ToolCallRequested) == ToolCallRequested(CALL, True, 2000)
    assert not all_of(talk.effects, RunTool)
    assert talk.effects[-1] == SetTimer(Timer.TOOL, talk.now_s + 2)
    assert talk.state.agent is AgentState.TOOL_RUNNING
    assert one(talk.make_audio(1000, 2000, 11), ReplyAudio)


def test_the_server_runs_its_own_functions() -> None:
    talk = calling()
    paid = ToolCall("c2", "pay", "{}")
    effects = call(talk, paid)
    assert one(effects, ToolCallRequested) == ToolCallRequested(paid, False, 3000)
    assert one(effects, RunTool) == RunTool(PART, paid, THERE)


def test_the_next_part_reads_what_the_call_gave_and_counts_on() -> None:
    talk = calling()
    assert "ReplyEnded" not in names(talk.made())
    effects = answer(talk)
    assert names(effects) == ["ToolCallEnded", "SetTimer", "ReplyText", "StartReply"]
    assert one(effects, ToolCallEnded) == ToolCallEnded("c1", ToolOutcome.RETURNED)
    part = one(effects, StartReply)
    assert (part.reply, part.first_sample, part.first_character) == (ReplyId(1, 1, 1), 1000, 12)
    assert part.context == (
        Message(Role.USER, "Will it rain?"),
        Message(Role.ASSISTANT, "Let me see."),
        Message(Role.ASSISTANT, CALL),
        Message(Role.TOOL, ToolResult("c1", "rain")),
    )
    talk.make_text("It rains.")
    talk.make_audio(1000, 2000, 21)
    assert one(talk.made(), ReplyEnded) == ReplyEnded(2000, "Let me see. It rains.")
    record = one(talk.heard_all(), CommitTurn).record
    assert record.tool_exchanges == (ToolExchange(CALL, ToolOutcome.RETURNED, "rain", ToolExecutor.CLIENT),)
    assert record.metrics.work.text_tokens == 6


def test_an_answer_before_the_audio_is_made_waits_for_it() -> None:
    talk = calling()
    assert "StartReply" not in names(answer(talk))
    assert talk.state.agent is AgentState.REPLYING
    assert one(talk.made(), StartReply).first_sample == 1000


def test_with_several_calls_the_last_answer_counts() -> None:
    talk = calling()
    call(talk, ToolCall("c2", "pay", "{}"))
    talk.made()
    assert names(answer(talk, "c2", "paid")) == ["ToolCallEnded", "SetTimer"]
    results = [message.content for message in one(answer(talk), StartReply).context if message.role is Role.TOOL]
    assert results == [ToolResult("c1", "rain"), ToolResult("c2", "paid")]


def test_later_turns_know_what_calls_gave() -> None:
    talk = calling()
    talk.made()
    answer(talk)
    talk.reply_from(1000, "It rains.")
    talk.heard_all()
    talk.committed(1)
    contents = [message.content for message in one(talk.text("b", "And tomorrow?"), StartReply).context]
    expected = ["Will it rain?", CALL, ToolResult("c1", "rain"), "Let me see. It rains.", "And tomorrow?"]
    assert contents == expected


def test_a_function_that_failed_tells_the_model_why() -> None:
    talk = calling()
    talk.made()
    effects = answer(talk, text="no such city", is_error=True)
    assert one(effects, ToolCallEnded).outcome is ToolOutcome.FAILED
    assert one(effects, StartReply).context[-1].content == ToolResult("c1", "no such city", is_error=True)


def test_a_call_that_takes_too_long_is_over_and_its_late_answer_has_no_effect() -> None:
    talk = calling()
    call(talk, ToolCall("c2", "pay", "{}"))
    talk.made()
    effects = talk.later(2000).time(Timer.TOOL)
    assert one(effects, ToolCallEnded) == ToolCallEnded("c1", ToolOutcome.TIMED_OUT)
    assert one(effects, SetTimer).at_s == talk.now_s + 1
    assert answer(talk) == ()
    effects = talk.later(1000).time(Timer.TOOL)
    assert one(effects, CancelTool).call_id == "c2"
    assert one(effects, StartReply).context[-1].content == ToolResult(
        "c2", "the function did not answer in time", is_error=True
    )


@pytest.mark.parametrize(("made", "problem"), [(ToolCall("c1", "fly", "{}"), ""), (CALL, "these are no arguments")])
def test_a_call_that_cannot_be_run_is_told_to_the_model_alone(made: ToolCall, problem: str) -> None:
    talk = Talk(OPTIONS)
    talk.text()
    assert call(talk, made, problem) == ()
    result = one(talk.made(), StartReply).context[-1].content
    assert isinstance(result, ToolResult)
    assert result.is_error
    assert result.text == (problem or "there is no function 'fly'")


def test_a_call_comes_once() -> None:
    talk = calling()
    assert call(talk) == ()


def test_a_model_that_calls_for_ever_is_offered_no_functions_in_the_end() -> None:
    talk = Talk(OPTIONS)
    talk.text()
    for number in range(MAX_CALLS):
        assert talk.state.live is not None
        call(talk, ToolCall(f"n{number}", "fly", "{}"))
        started = one(talk.made(), StartReply)
        assert (started.options.tools == ()) is (number == MAX_CALLS - 1)
    assert call(talk, ToolCall("more", "weather", "{}")) == ()
    assert "ReplyEnded" in names(talk.made())


def test_an_interruption_cancels_every_call_before_the_turn_ends() -> None:
    talk = calling()
    call(talk, ToolCall("c2", "pay", "{}"))
    effects = talk.tell(Interrupt(talk.now_s, Playback(1, 1000)))
    assert names(effects)[:5] == ["CancelReply", "Interrupted", "ToolCallEnded", "CancelTool", "ToolCallEnded"]
    assert {ended.outcome for ended in all_of(effects, ToolCallEnded)} == {ToolOutcome.CANCELLED}
    record = one(talk.stopped(PART), CommitTurn).record
    assert [exchange.outcome for exchange in record.tool_exchanges] == [ToolOutcome.CANCELLED] * 2
    assert answer(talk) == ()


def test_an_interruption_while_only_calls_are_waited_for_cancels_no_work_that_is_over() -> None:
    talk = calling()
    talk.made()
    effects = talk.tell(Interrupt(talk.now_s, Playback(1, 1000)))
    assert "CancelReply" not in names(effects)
    assert one(effects, CommitTurn).record.outcome is Outcome.INTERRUPTED


def test_a_reply_that_fails_cancels_its_calls() -> None:
    talk = calling()
    effects = talk.failed(GenerationError("none"))
    assert names(effects)[0] == "ToolCallEnded"
    assert talk.state.agent is AgentState.REPLYING
    assert one(talk.heard_all(), CommitTurn).record.outcome is Outcome.FAILED


def test_a_closed_session_waits_for_no_call() -> None:
    talk = calling()
    effects = talk.tell(Closed(talk.now_s))
    assert one(effects, ToolCallEnded).outcome is ToolOutcome.CANCELLED
    assert one(effects, CommitTurn)


@pytest.mark.parametrize("call_id", ["nobody's", "c2"])
def test_a_result_that_the_client_does_not_owe_is_refused(call_id: str) -> None:
    talk = calling()
    call(talk, ToolCall("c2", "pay", "{}"))
    refused = one(talk.tell(ToolAnswered(talk.now_s, call_id, "x", from_client=True)), Refused)
    assert isinstance(refused.error, ToolCallNotFoundError)
    assert talk.state.agent is AgentState.TOOL_RUNNING


def test_after_a_resume_the_client_is_asked_again_under_the_same_id() -> None:
    talk = calling(resumes_replies=True)
    call(talk, ToolCall("c2", "pay", "{}"))
    talk.tell(Detached(talk.now_s))
    talk.stopped(PART)
    effects = talk.later(500).tell(Resumed(talk.now_s, Playback(1, 400)))
    assert one(effects, ToolCallRequested) == ToolCallRequested(CALL, True, 1500)
    resume = one(effects, ResumeReply)
    assert (resume.first_sample, resume.is_text_complete) == (400, True)
    assert talk.state.agent is AgentState.TOOL_RUNNING
    talk.tell(ReplyTakenUp(talk.now_s, talk.live, can_go_on=True))
    talk.make_audio(400, 1000, 11)
    talk.made()
    answer(talk)
    assert one(answer(talk, "c2", "paid"), StartReply).reply == ReplyId(1, 2, 1)


def test_a_call_that_was_answered_while_the_stream_was_lost_is_not_asked_for_again() -> None:
    talk = calling(resumes_replies=True)
    talk.tell(Detached(talk.now_s))
    talk.tell(ToolAnswered(talk.now_s, "c1", "rain"))
    assert not all_of(talk.tell(Resumed(talk.now_s, None)), ToolCallRequested)


def waiting(**speech: object) -> Talk:
    """A reply has called a function without a word, and nothing else comes of its first part."""
    talk = Talk(replace(OPTIONS, tool_speech=replace(OPTIONS.tool_speech, **speech)))  # type: ignore[arg-type]  # its own fields
    talk.text("a", "Will it rain?")
    call(talk)
    talk.made()
    return talk


def test_a_notice_is_said_where_nothing_else_is_while_a_function_runs() -> None:
    talk = waiting(notice="One moment.", notice_after_ms=700)
    assert talk.effects[-1] == SetTimer(Timer.NOTICE, talk.now_s + 0.7)
    part = one(talk.later(700).time(Timer.NOTICE), StartReply)
    assert (part.reply, part.words, part.context, part.first_sample) == (ReplyId(1, 1, 1), "One moment.", (), 0)
    talk.reply_from(0, "One moment.", ms=500)
    assert talk.state.agent is AgentState.TOOL_RUNNING
    part = one(answer(talk), StartReply)
    assert (part.reply, part.first_sample, part.first_character) == (ReplyId(1, 1, 2), 500, 12)
    assert [message.content for message in part.context] == [
        "Will it rain?", CALL, "One moment.", ToolResult("c1", "rain")
    ]  # fmt: skip
    talk.reply_from(500, "It rains.")
    assert one(talk.heard_all(), CommitTurn).record.agent_text == "One moment. It rains."


def test_a_notice_waits_until_what_was_said_before_was_heard() -> None:
    talk = Talk(OPTIONS)
    talk.text()
    talk.make_text("Let me look that up.")
    talk.make_audio(0, 3000, 20)
    call(talk)
    talk.made()
    assert talk.effects[-1] == SetTimer(Timer.NOTICE, talk.now_s + 4)
    talk.wait(1000)
    assert one(talk.time(Timer.NOTICE), SetTimer).at_s == talk.now_s + 3
    assert one(talk.later(3000).time(Timer.NOTICE), StartReply).first_character == 21


def test_a_notice_is_repeated_after_a_longer_silence_and_not_once_the_answer_is_there() -> None:
    talk = waiting()
    talk.later(1000).time(Timer.NOTICE)
    talk.reply_from(0, "One moment, please.")
    assert talk.effects[-1] == SetTimer(Timer.NOTICE, talk.now_s + 1 + REPEATED_AFTER_S)
    answer(talk)
    assert talk.later(20_000).time(Timer.NOTICE) == ()


def test_a_notice_that_is_being_said_when_the_answer_comes_is_said_to_its_end() -> None:
    talk = waiting()
    talk.later(1000).time(Timer.NOTICE)
    assert "StartReply" not in names(answer(talk))
    assert one(talk.reply_from(0, "One moment, please."), StartReply).first_sample == 1000


def test_without_a_notice_the_wait_is_silent() -> None:
    assert not [effect for effect in waiting(notice="").effects if effect == SetTimer(Timer.NOTICE, 101.0)]


def test_an_interruption_during_a_notice_stops_it_and_cancels_the_call() -> None:
    talk = waiting()
    talk.later(1000).time(Timer.NOTICE)
    talk.make_text("One moment, please.")
    talk.make_audio(0, 1000, 19)
    effects = talk.tell(Interrupt(talk.now_s, Playback(1, 500)))
    assert names(effects)[0] == "CancelReply"
    assert one(effects, ToolCallEnded).outcome is ToolOutcome.CANCELLED


def test_words_behind_a_call_are_read_before_its_result() -> None:
    talk = Talk(OPTIONS)
    talk.text("a", "Will it rain?")
    call(talk)
    talk.reply("I will check.")
    contents = [message.content for message in one(answer(talk), StartReply).context]
    assert contents == ["Will it rain?", CALL, "I will check.", ToolResult("c1", "rain")]


def test_a_second_round_reads_the_first_one_as_it_was() -> None:
    talk = calling()
    talk.made()
    answer(talk)
    talk.make_text("And in Rome?")
    second = ToolCall("c9", "weather", '{"city":"Rome"}')
    call(talk, second)
    talk.made()
    contents = [message.content for message in one(answer(talk, "c9", "sun"), StartReply).context]
    assert contents == [
        "Will it rain?", "Let me see.", CALL, ToolResult("c1", "rain"), "And in Rome?", second, ToolResult("c9", "sun")
    ]  # fmt: skip


def test_what_a_call_gave_is_kept_and_read_later_as_far_as_is_bounded() -> None:
    talk = calling()
    talk.made()
    answer(talk, text="x" * 9000)
    talk.reply_from(1000, "Much.")
    (kept,) = one(talk.heard_all(), CommitTurn).record.tool_exchanges
    assert len(kept.text) < KEPT_RESULT_CHARACTERS + 100
    assert kept.text.endswith("[cut here: 9000 characters in all]")
    assert (kept.executor, kept.duration_s) == (ToolExecutor.CLIENT, 0.0)
    talk.committed(1)
    read = one(talk.text("b", "And now?"), StartReply).context
    assert ToolResult("c1", kept.text) in [message.content for message in read]


def test_a_call_is_not_made_again_by_another_replica() -> None:
    talk = calling(resumes_replies=True)
    saves = [effect for effect in talk.effects if isinstance(effect, SaveOpenTurn)]
    assert saves[-1].basis is None
    runs = Talk(OPTIONS, resumes_replies=True)
    runs.text()
    effects = call(runs, ToolCall("c2", "pay", "{}"))
    assert names(effects).index("SaveOpenTurn") < names(effects).index("RunTool")


def test_a_notice_that_was_stopped_goes_on_as_a_notice() -> None:
    talk = Talk(OPTIONS, resumes_replies=True)
    talk.text()
    call(talk)
    talk.made()
    talk.later(1000).time(Timer.NOTICE)
    talk.make_text("One moment, please.")
    talk.make_audio(0, 1000, 19)
    talk.tell(Detached(talk.now_s))
    resume = one(talk.tell(Resumed(talk.now_s, Playback(1, 400))), ResumeReply)
    assert (resume.words, resume.context, resume.part_sample, resume.part_character) == (
        "One moment, please.",
        (),
        0,
        0,
    )
