"""A witness of a conversation: sees every event and effect and holds them to the order that the API promises."""

from dataclasses import dataclass, field

from services.orchestrator.conversation.effects import (
    CancelReply,
    CommitReply,
    CommitTurn,
    DropUtterance,
    Effect,
    Emit,
    EndStream,
    EndUtterance,
    OpenUtterance,
    ResumeReply,
    StartReply,
    Transcribe,
)
from services.orchestrator.conversation.events import (
    Event,
    ReplyFailed,
    ReplyId,
    ReplyMade,
    ReplyStopped,
    ReplyTakenUp,
    ReplyTextMade,
    Resumed,
)
from services.orchestrator.conversation.history import speech_of
from services.orchestrator.conversation.outputs import (
    InputReleased,
    Interrupted,
    ReplyAudio,
    ReplyEnded,
    ReplyResumed,
    ReplyStarted,
    ReplyText,
    SpeechStarted,
    SpeechStopped,
    ToolCallEnded,
    ToolCallRequested,
    Transcript,
    TurnEnded,
)
from services.orchestrator.conversation.record import Origin, Outcome


@dataclass
class Seen:
    """What was seen of a turn."""

    origin: Origin
    text: str = ""
    sent: int = 0
    spoken: int = 0
    ended: bool = False
    stopped: bool = False
    taking_up: bool = False
    transcripts: int = 0
    turn_ended: bool = False


@dataclass
class Witness:
    """What was seen so far; its methods fail where a promise is broken."""

    epoch: int = 1
    turns: dict[int, Seen] = field(default_factory=dict)
    committed: list[int] = field(default_factory=list)
    asked: dict[ReplyId, bool] = field(default_factory=dict)
    prepared: set[ReplyId] = field(default_factory=set)
    at_work: set[ReplyId] = field(default_factory=set)
    audible: ReplyId | None = None
    made: dict[ReplyId, str] = field(default_factory=dict)
    finished: set[ReplyId] = field(default_factory=set)
    told: dict[ReplyId, str] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    ended_calls: set[str] = field(default_factory=set)
    resumed: int = 0
    utterances: dict[int, str] = field(default_factory=dict)
    free_from: int = 0
    released: int = 0
    opened_at: int = 0
    speaking: bool = False
    over: bool = False
    is_closed: bool = False

    def see(self, event: Event, effects: tuple[Effect, ...]) -> None:
        """One step."""
        self._event(event)
        for effect in effects:
            assert not (self.over and isinstance(effect, StartReply | CommitTurn | Transcribe | OpenUtterance))
            match effect:
                case Emit():
                    self._output(effect)
                case StartReply():
                    self._start(effect)
                case CommitReply():
                    assert effect.reply in self.prepared
                    assert self.asked[effect.reply]
                    assert effect.reply == (len(self.turns) + 1, self.epoch, effect.reply.part)
                    self.audible = effect.reply
                case ResumeReply():
                    self._resume(effect)
                case CancelReply():
                    assert self.asked[effect.reply], "cancelled twice"
                    self.asked[effect.reply] = False
                    self.at_work.discard(effect.reply)
                    self.audible = None if self.audible == effect.reply else self.audible
                case CommitTurn():
                    assert effect.record.number == len(self.committed) + 1, "kept out of order"
                    self.committed.append(effect.record.number)
                case OpenUtterance() | EndUtterance() | DropUtterance() | Transcribe():
                    self._utterance(effect)
                case EndStream():
                    assert all(turn.turn_ended for turn in self.turns.values())
                    self.over = True

    def _event(self, event: Event) -> None:
        if isinstance(event, ReplyMade):
            self.finished.add(event.reply)
        if isinstance(event, ReplyMade | ReplyFailed | ReplyStopped):
            self.at_work.discard(event.reply)
        if isinstance(event, ReplyTakenUp) and not event.can_go_on:
            self.at_work.discard(event.reply)
        if isinstance(event, ReplyTextMade):
            self.made[event.reply] = self.made.get(event.reply, "") + event.text
        if isinstance(event, Resumed) and not self.is_closed:
            self.epoch += 1
            self.audible = None
            for turn in self.turns.values():
                turn.stopped = True

    def _utterance(self, effect: OpenUtterance | EndUtterance | DropUtterance | Transcribe) -> None:
        match effect:
            case OpenUtterance():
                assert "open" not in self.utterances.values()
                assert effect.utterance == len(self.utterances) + 1
                assert effect.first_sample >= max(self.free_from, self.released)
                self.utterances[effect.utterance] = "open"
                self.opened_at = effect.first_sample
            case EndUtterance():
                assert self.utterances[effect.utterance] == "open"
                assert self.opened_at < effect.end_sample <= self.opened_at + 2000 * 16
                self.utterances[effect.utterance] = "ended"
                self.free_from = effect.end_sample
            case DropUtterance():
                assert self.utterances[effect.utterance] in ("open", "ended", "transcribed")
                self.utterances[effect.utterance] = "dropped"
            case Transcribe(end_sample=int()):
                assert self.utterances[effect.utterance] == "open"
            case Transcribe():
                assert self.utterances[effect.utterance] == "ended", "asked for twice, or forgotten"
                self.utterances[effect.utterance] = "transcribed"

    def _begin_work(self, reply: ReplyId) -> None:
        assert not self.at_work, "work on two replies that nobody has stopped"
        self.at_work.add(reply)

    def _start(self, effect: StartReply) -> None:
        assert effect.reply.epoch == self.epoch
        assert effect.reply.turn == len(self.turns) + (effect.reply.turn not in self.turns)
        assert effect.reply not in self.asked, "two pieces of work under one id"
        self._begin_work(effect.reply)
        assert bool(effect.context) != bool(effect.words)
        speech = [self.utterances[number] for number in speech_of(effect.context)]
        assert all(state in ("ended", "transcribed") for state in speech[: -1 if effect.is_speculative else None])
        assert not effect.is_speculative or speech[-1] == "open"
        self.asked[effect.reply] = True
        self.made.pop(effect.reply, None)
        if effect.is_speculative:
            assert all(turn.ended or turn.stopped for turn in self.turns.values()), "prepared during a reply"
            self.prepared.add(effect.reply)
        else:
            self.audible = effect.reply

    def _resume(self, effect: ResumeReply) -> None:
        turn = self.turns[effect.reply.turn]
        assert effect.reply.epoch == self.epoch > effect.stopped.epoch
        assert effect.reply not in self.asked
        self._begin_work(effect.reply)
        assert turn.stopped
        assert not turn.turn_ended
        assert 0 <= effect.first_sample <= turn.sent
        assert effect.text == turn.text
        turn.taking_up = True
        self.asked[effect.reply] = True
        self.made.pop(effect.reply, None)
        self.audible = effect.reply

    def _output(self, effect: Emit) -> None:
        output = effect.output
        assert effect.epoch == self.epoch + isinstance(output, Interrupted), "an epoch that nothing began"
        self.epoch = effect.epoch
        match output:
            case SpeechStarted() | SpeechStopped():
                assert self.speaking is isinstance(output, SpeechStopped)
                self.speaking = isinstance(output, SpeechStarted)
                assert effect.turn > len(self.turns)
            case InputReleased():
                assert output.before_sample > self.released
                self.released = output.before_sample
            case ReplyStarted():
                assert effect.turn == len(self.turns) + 1
                assert all(turn.ended or turn.stopped for turn in self.turns.values()), "replies overlap"
                self.turns[effect.turn] = Seen(output.origin)
            case ReplyText() | ReplyAudio() | ReplyEnded() | Interrupted():
                self._reply(self.turns[effect.turn], output)
            case ReplyResumed():
                self._reply_resumed(self.turns[effect.turn], output)
            case ToolCallRequested() | ToolCallEnded():
                self._call(effect.turn, output)
            case Transcript(is_final=False):
                assert effect.turn > len(self.turns)
            case Transcript():
                self.turns[effect.turn].transcripts += 1
            case TurnEnded():
                self._turn_ended(effect.turn, output)
            case _:
                assert effect.turn == 0

    def _reply(self, turn: Seen, output: ReplyText | ReplyAudio | ReplyEnded | Interrupted) -> None:
        assert not turn.turn_ended
        if isinstance(output, Interrupted):
            assert turn.taking_up or not turn.stopped, "interrupted without a reply"
            turn.taking_up = False
            assert 0 <= output.heard_samples <= turn.sent
            turn.stopped = True
            self.audible = None
            return
        assert not turn.stopped, "an old reply goes on"
        assert not turn.ended
        match output:
            case ReplyText():
                assert self.audible is not None
                turn.text += output.text
                if self.audible in self.finished and output.text == " ":
                    return  # before the next part of the reply
                told = self.told[self.audible] = self.told.get(self.audible, "") + output.text
                assert self.made[self.audible].startswith(told), "text of another reply"
            case ReplyAudio():
                assert output.samples == self.audible, "audio of another reply"
                assert output.first_sample == turn.sent
                assert turn.spoken <= output.spoken_characters <= len(turn.text)
                turn.sent, turn.spoken = output.end_sample, output.spoken_characters
            case ReplyEnded():
                assert (output.total_samples, output.text) == (turn.sent, turn.text)
                turn.ended = True

    def _reply_resumed(self, turn: Seen, output: ReplyResumed) -> None:
        assert turn.stopped
        assert not turn.turn_ended
        assert output.text == turn.text
        assert 0 <= output.first_sample <= turn.sent
        turn.sent, turn.spoken = output.first_sample, 0
        turn.stopped = turn.ended = turn.taking_up = False
        self.resumed += 1

    def _call(self, number: int, output: ToolCallRequested | ToolCallEnded) -> None:
        assert not self.turns[number].turn_ended
        if isinstance(output, ToolCallRequested):
            assert self.calls.setdefault(output.call.call_id, number) == number
            assert output.call.call_id not in self.ended_calls
        else:
            assert self.calls[output.call_id] == number
            assert output.call_id not in self.ended_calls, "ended twice"
            self.ended_calls.add(output.call_id)

    def _turn_ended(self, number: int, output: TurnEnded) -> None:
        turn, record = self.turns[number], output.record
        assert number == record.number == sum(seen.turn_ended for seen in self.turns.values()) + 1
        assert number in self.committed
        assert turn.ended or turn.stopped or self.is_closed
        assert turn.transcripts == (turn.origin is Origin.SPEECH) or self.is_closed
        assert turn.text.startswith(record.agent_text)
        assert all(call in self.ended_calls for call, at in self.calls.items() if at == number)
        assert 0 <= output.heard_samples <= turn.sent
        if record.outcome is Outcome.COMPLETED:
            assert turn.ended
            assert (output.heard_samples, record.agent_text) == (turn.sent, turn.text)
        assert (record.error is not None) is (record.outcome is Outcome.FAILED)
        turn.turn_ended = True
