"""Any sequence of events: the promises hold, nothing raises, and a conversation that is let end does end."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.orchestrator.conversation import StreamState, playout_lead_s
from services.orchestrator.conversation.effects import (
    AskTurnModel,
    CancelReply,
    CommitTurn,
    Effect,
    EndStream,
    ResumeReply,
    RunTool,
    SetTimer,
    StartReply,
    Transcribe,
)
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
    ReplyFailed,
    ReplyId,
    ReplyTakenUp,
    Resumed,
    SpeculationAllowed,
    Timer,
    TimeReached,
    ToolAnswered,
    ToolCallMade,
    Transcribed,
    TurnJudged,
)
from services.orchestrator.conversation.options import (
    BargeInOptions,
    EndpointingMode,
    EndpointingOptions,
    Options,
    SpeculationOptions,
    Tool,
    ToolExecutor,
    TurnTakingOptions,
)
from services.orchestrator.conversation.record import ToolCall
from services.shared.errors import GenerationError
from tests.orchestrator.conversation.talk import WORK, Talk
from tests.orchestrator.conversation.witness import Witness

pytestmark = pytest.mark.unit
WORDS = "It rains today, 今天下雨, and tomorrow. "


def options(mode: EndpointingMode) -> Options:
    quick = EndpointingOptions(pause_ms=64, complete_silence_ms=160, max_silence_ms=320)
    taking = TurnTakingOptions(mode=mode, while_idle=quick, while_replying=quick, max_utterance_ms=2000)
    return Options(turn_taking=taking)


def rich_options(size: int = 0) -> Options:
    """Everything that can be asked for, or most of it."""
    plain = options(EndpointingMode.TURN_MODEL if size % 2 else EndpointingMode.SILENCE)
    quick = EndpointingOptions(64, 160, 320, adapt_to_caller=True, one_word_silence_ms=64, spelling_silence_ms=500)
    barge_in = BargeInOptions(True, 64, ignore_back_channels=size % 3 > 0, false_interruption_ms=200 * (size % 5 > 0))
    taking = replace(
        plain.turn_taking,
        while_idle=quick,
        while_replying=quick,
        while_tool_running=quick,
        barge_in=barge_in,
        speculation=SpeculationOptions(enabled=True, max_per_turn=3),
    )
    tools = (Tool("near", "n", timeout_ms=900), Tool("far", "f", executor=ToolExecutor.MCP_SERVER, timeout_ms=700))
    return replace(plain, turn_taking=taking, tools=tools, partial_transcripts=size % 2 > 0)


class World(Talk):
    """A client and a server's work that answer what they are asked, as late as the test likes, and lie when told to."""

    def __init__(self, chosen: Options | None = None, *, resumes_replies: bool = False) -> None:
        super().__init__(chosen or options(EndpointingMode.SILENCE), resumes_replies=resumes_replies)
        self.witness = Witness()
        self.to_take_up: list[ReplyId] = []
        self.to_judge: list[AskTurnModel] = []
        self.to_write: list[Transcribe] = []
        self.to_run: list[str] = []
        self.call_ids = 0
        self.working: list[ReplyId] = []
        self.cancelled: list[ReplyId] = []
        self.to_transcribe: list[int] = []
        self.to_commit: list[int] = []
        self.timers: dict[Timer, float | None] = {}
        self.ids = 0

    def tell(self, event: Event) -> tuple[Effect, ...]:
        before = self.state
        effects = super().tell(event)
        self.witness.is_closed = self.state.stream is StreamState.CLOSED
        self.witness.see(event, effects)
        for effect in effects:
            self._owe(effect)
        assert self.state.epoch >= before.epoch
        assert sum(turn.phase == "replying" for turn in self.state.turns) == (self.state.live is not None)
        assert playout_lead_s(self.state, self.now_s) >= 0
        return effects

    def _owe(self, effect: Effect) -> None:
        match effect:
            case StartReply():
                self.working.append(effect.reply)
            case ResumeReply():
                self.to_take_up.append(effect.reply)
            case CancelReply():
                (self.working if effect.reply in self.working else self.to_take_up).remove(effect.reply)
                self.cancelled.append(effect.reply)
            case AskTurnModel():
                self.to_judge.append(effect)
            case RunTool():
                self.to_run.append(effect.call.call_id)
            case Transcribe(end_sample=int()):
                self.to_write.append(effect)
            case Transcribe():
                self.to_transcribe.append(effect.utterance)
            case CommitTurn():
                self.to_commit.append(effect.record.number)
            case SetTimer():
                self.timers[effect.timer] = effect.at_s
            case EndStream():
                assert not self.working

    def bring_text(self, size: int) -> None:
        if self.working:
            self.make_text(WORDS[: 1 + size % len(WORDS)], self.working[-1])

    def bring_audio(self, size: int) -> None:
        live, ahead = self.state.live, self.state.ahead.speculation
        if ahead is not None and ahead.reply in self.working:
            made = ahead.end_sample
            self.make_audio(made, made + 1 + size * 20, size % 9, reply=ahead.reply, samples=ahead.reply)
        elif live is not None and live.reply in self.working:
            sent = live.playout.sent_samples
            spoken = live.playout.spoken_characters + size % 9
            self.make_audio(sent, sent + 1 + size * 20, spoken, reply=live.reply, samples=live.reply)

    def call(self, size: int) -> None:
        if self.working:
            self.call_ids += size % 5 > 0
            name, problem = ("near", "far", "no such")[size % 3], "malformed" if size % 7 == 0 else ""
            call = ToolCall(f"c{self.call_ids}", name, "{}")
            self.tell(ToolCallMade(self.now_s, self.working[-1], call, problem))

    def answer(self, size: int) -> None:
        if self.to_run and size % 2:
            self.tell(ToolAnswered(self.now_s, self.to_run.pop(0), "sun", is_error=size % 3 == 0))
        else:
            self.tell(ToolAnswered(self.now_s, f"c{max(0, self.call_ids - size % 3)}", "rain", from_client=True))

    def take_up(self, size: int) -> None:
        if self.to_take_up:
            reply = self.to_take_up.pop(0)
            if size % 4 == 1:
                self.tell(ReplyFailed(self.now_s, reply, GenerationError("none"), WORK))
                return
            if size % 4:
                self.working.append(reply)
            self.tell(ReplyTakenUp(self.now_s, reply, can_go_on=size % 4 > 0, spoken_characters=size % 9))

    def judge(self, size: int) -> None:
        if self.to_judge:
            asked = self.to_judge.pop(0)
            self.tell(TurnJudged(self.now_s, asked.utterance, asked.end_sample, size % 3 / 2))

    def write_down(self, size: int) -> None:
        if self.to_write:
            asked = self.to_write.pop(size % len(self.to_write))
            text = ("", "mm-hm", "stop now", "yes", "a b c", "嗯嗯")[size % 6]
            self.tell(Transcribed(self.now_s, asked.utterance, text, is_final=False, end_sample=asked.end_sample or 0))

    def finish(self, size: int) -> None:
        if self.working:
            reply = self.working.pop()
            if size % 4:
                self.made(reply)
            else:
                self.tell(ReplyFailed(self.now_s, reply, GenerationError("none"), WORK))

    def let_go(self, size: int) -> None:
        if self.cancelled:
            self.stopped(self.cancelled.pop(size % len(self.cancelled)))

    def transcribe(self, size: int) -> None:
        if self.to_transcribe:
            self.transcribed(self.to_transcribe.pop(size % len(self.to_transcribe)), "words" * (size % 2))

    def commit(self, _: int) -> None:
        if self.to_commit:
            self.committed(self.to_commit.pop(0))

    def write(self, size: int) -> None:
        self.ids += size % 3 > 0
        if size % 2:
            self.text(f"r{self.ids}", after_reply=size % 4 > 1)
        else:
            self.say(f"r{self.ids}" if size % 5 else "", after_reply=size % 4 > 1)

    def hear(self, size: int) -> None:
        live = self.state.live
        turn = live.number if live is not None and size % 5 else size % 4
        self.acknowledge(turn, size * 25, size % 3)

    def resume(self, size: int) -> None:
        self.tell(Resumed(self.now_s, Playback(self.state.next_turn - 1, size * 20) if size % 3 else None))

    def time_passes(self, size: int) -> None:
        self.wait(size * 40)
        for timer in list(self.timers):
            at_s = self.timers[timer]  # as it is now: the event of an earlier timer may have moved it
            if at_s is not None and at_s <= self.now_s:
                self.timers[timer] = None
                self.tell(TimeReached(self.now_s, timer))

    def lie(self, size: int) -> None:
        """What no shell does: answers nobody asked for."""
        reply = ReplyId(size % 5, 1 + size % 3)
        live = self.state.live_reply
        if reply in (*self.working, *self.cancelled, live):
            return
        self.make_text("lie", reply)
        self.make_audio(size, size + 10, 3, reply=reply)
        self.made(reply)
        self.tell(Transcribed(self.now_s, 99, "lie", is_final=True))
        self.committed(size % 7 + 50)
        self.tell(TimeReached(self.now_s, Timer.PLAYOUT if size % 2 else Timer.ACKNOWLEDGEMENT))

    def drain(self) -> None:
        """Everybody does what is owed, until nothing is left to do."""
        if self.state.stream is StreamState.DETACHED:
            self.resume(0)
        self.end_input()
        for _ in range(400):
            if self.state.has_ended:
                break
            self.bring_text(9)
            self.bring_audio(9)
            for act in (self.take_up, self.finish, self.let_go, self.transcribe, self.commit, self.time_passes):
                act(6)
            for act in (self.write_down, self.judge):
                act(5)
        assert self.state.has_ended
        assert not self.state.utterances


ACTS: dict[str, Callable[[World, int], object]] = {
    "speak": lambda world, size: world.speak(32 * (size % 24)),
    "hush": lambda world, size: world.hush(32 * (size % 12)),
    "end turn": lambda world, _: world.end_turn(),
    "write": World.write,
    "interrupt": lambda world, size: world.tell(
        Interrupt(world.now_s, Playback(size % 4, size * 9) if size % 3 else None)
    ),
    "hear": World.hear,
    "change": lambda world, size: world.tell(OptionsChanged(world.now_s, options(list(EndpointingMode)[size % 3]))),
    "lose": lambda world, _: world.tell(Detached(world.now_s)),
    "resume": World.resume,
    "warn": lambda world, _: world.tell(ClosingSoon(world.now_s, GoAwayReason.DRAINING, 9, resumable=True)),
    "text": World.bring_text,
    "audio": World.bring_audio,
    "finish": World.finish,
    "let go": World.let_go,
    "transcribe": World.transcribe,
    "commit": World.commit,
    "time": World.time_passes,
    "lie": World.lie,
}
RICH_ACTS: dict[str, Callable[[World, int], object]] = {
    **ACTS,
    "choose": lambda world, size: world.tell(OptionsChanged(world.now_s, rich_options(size))),
    "budget": lambda world, size: world.tell(SpeculationAllowed(world.now_s, is_allowed=size % 3 > 0)),
    "call": World.call,
    "answer": World.answer,
    "take up": World.take_up,
    "judge": World.judge,
    "write down": World.write_down,
}
OFTEN = ["speak", "hush", "hush", "write", "text", "audio", "audio", "finish", "hear", "time", "let go"]
RICH_OFTEN = [*OFTEN, "speak", "hush", "call", "answer", "take up", "write down", "finish", "let go", "time", "time"]
Steps = list[tuple[str, int]]


def read(acts: list[str]) -> Callable[[bytes], Steps]:
    """Acts and their sizes from pairs of bytes, which are drawn much faster than lists."""
    return lambda drawn: [
        (acts[act % len(acts)], size % 61) for act, size in zip(drawn[::2], drawn[1::2], strict=False)
    ]


RICH_STEPS = st.binary(min_size=24, max_size=160).map(read([*RICH_ACTS, *RICH_OFTEN]))
STEPS = st.binary(min_size=24, max_size=160).map(read([*ACTS, *OFTEN]))


@settings(max_examples=2500)
@given(STEPS)
def test_every_promise_holds_and_every_turn_ends_whatever_happens(steps: Steps) -> None:
    world = World()
    for act, size in steps:
        ACTS[act](world, size)
    world.drain()
    assert len(world.witness.committed) == len(world.witness.turns)
    assert all(turn.turn_ended for turn in world.witness.turns.values())


@settings(max_examples=6500)
@given(RICH_STEPS, st.integers(0, 30), st.booleans())
def test_with_everything_asked_for_no_old_epoch_and_no_discarded_reply_is_ever_heard(
    steps: Steps, size: int, resumes: bool
) -> None:
    world = World(rich_options(size), resumes_replies=resumes)
    for act, extent in steps:
        RICH_ACTS[act](world, extent)
    world.drain()
    assert len(world.witness.committed) == len(world.witness.turns)
    assert all(turn.turn_ended for turn in world.witness.turns.values())
    assert world.witness.calls.keys() == world.witness.ended_calls


@settings(max_examples=500)
@given(STEPS, STEPS)
def test_a_session_that_is_closed_at_any_moment_keeps_all_its_turns_and_ends(steps: Steps, late: Steps) -> None:
    world = World()
    for act, size in steps:
        ACTS[act](world, size)
    world.tell(Closed(world.now_s))
    for act, size in late:
        ACTS[act](world, size)
    while world.to_commit:
        world.commit(0)
    assert world.state.has_ended
    assert len(world.witness.committed) == len(world.witness.turns)


@settings(max_examples=500)
@given(STEPS)
def test_after_the_end_of_input_no_turn_begins_that_was_not_asked_for(steps: Steps) -> None:
    world = World()
    world.text("first")
    world.end_input()
    for act, size in steps:
        ACTS[act](world, size)
    world.drain()
    assert len(world.witness.turns) == 1


def test_the_same_events_give_the_same_effects() -> None:
    def effects() -> list[Effect]:
        talk = Talk()
        talk.say_turn()
        talk.reply()
        talk.tell(Acknowledged(talk.now_s, Playback(1, 1000)))
        return talk.effects

    assert effects() == effects()
