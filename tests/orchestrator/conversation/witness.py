"""A witness of a conversation: sees every event and effect and holds them to the order that the API promises."""

from dataclasses import dataclass, field

from services.orchestrator.conversation.effects import (
    CancelReply,
    CommitTurn,
    DropUtterance,
    Effect,
    Emit,
    EndStream,
    EndUtterance,
    OpenUtterance,
    StartReply,
    Transcribe,
)
from services.orchestrator.conversation.events import Event, ReplyId, Resumed
from services.orchestrator.conversation.history import speech_of
from services.orchestrator.conversation.outputs import (
    InputReleased,
    Interrupted,
    ReplyAudio,
    ReplyEnded,
    ReplyStarted,
    ReplyText,
    SpeechStarted,
    SpeechStopped,
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
    transcripts: int = 0
    turn_ended: bool = False


@dataclass
class Witness:
    """What was seen so far; its methods fail where a promise is broken."""

    epoch: int = 1
    turns: dict[int, Seen] = field(default_factory=dict)
    committed: list[int] = field(default_factory=list)
    asked: dict[ReplyId, bool] = field(default_factory=dict)
    utterances: dict[int, str] = field(default_factory=dict)
    free_from: int = 0
    released: int = 0
    opened_at: int = 0
    speaking: bool = False
    over: bool = False
    is_closed: bool = False

    def see(self, event: Event, effects: tuple[Effect, ...]) -> None:
        """One step."""
        if isinstance(event, Resumed) and not self.is_closed:
            self.epoch += 1
            for turn in self.turns.values():
                turn.stopped = True
        for effect in effects:
            assert not (self.over and isinstance(effect, StartReply | CommitTurn | Transcribe | OpenUtterance))
            match effect:
                case Emit():
                    self._output(effect)
                case StartReply():
                    self._start(effect)
                case CancelReply():
                    assert self.asked[effect.reply], "cancelled twice"
                    self.asked[effect.reply] = False
                case CommitTurn():
                    assert effect.record.number == len(self.committed) + 1, "kept out of order"
                    self.committed.append(effect.record.number)
                case OpenUtterance() | EndUtterance() | DropUtterance() | Transcribe():
                    self._utterance(effect)
                case EndStream():
                    assert all(turn.turn_ended for turn in self.turns.values())
                    self.over = True

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
            case Transcribe():
                assert self.utterances[effect.utterance] == "ended", "asked for twice, or forgotten"
                self.utterances[effect.utterance] = "transcribed"

    def _start(self, effect: StartReply) -> None:
        assert effect.reply.epoch == self.epoch
        assert effect.reply.turn == len(self.turns) + 1
        assert effect.reply not in self.asked
        assert bool(effect.context) != bool(effect.words)
        assert all(self.utterances[number] in ("ended", "transcribed") for number in speech_of(effect.context))
        self.asked[effect.reply] = True

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
            case Transcript():
                self.turns[effect.turn].transcripts += 1
            case TurnEnded():
                self._turn_ended(effect.turn, output)
            case _:
                assert effect.turn == 0

    def _reply(self, turn: Seen, output: ReplyText | ReplyAudio | ReplyEnded | Interrupted) -> None:
        assert not turn.stopped, "an old reply goes on"
        assert not turn.turn_ended
        if isinstance(output, Interrupted):
            assert 0 <= output.heard_samples <= turn.sent
            turn.stopped = True
            return
        assert not turn.ended
        match output:
            case ReplyText():
                turn.text += output.text
            case ReplyAudio():
                assert output.first_sample == turn.sent
                assert turn.spoken <= output.spoken_characters <= len(turn.text)
                turn.sent, turn.spoken = output.end_sample, output.spoken_characters
            case ReplyEnded():
                assert (output.total_samples, output.text) == (turn.sent, turn.text)
                turn.ended = True

    def _turn_ended(self, number: int, output: TurnEnded) -> None:
        turn, record = self.turns[number], output.record
        assert number == record.number == sum(seen.turn_ended for seen in self.turns.values()) + 1
        assert number in self.committed
        assert turn.ended or turn.stopped or self.is_closed
        assert turn.transcripts == (turn.origin is Origin.SPEECH) or self.is_closed
        assert turn.text.startswith(record.agent_text)
        assert 0 <= output.heard_samples <= turn.sent
        if record.outcome is Outcome.COMPLETED:
            assert turn.ended
            assert (output.heard_samples, record.agent_text) == (turn.sent, turn.text)
        assert (record.error is not None) is (record.outcome is Outcome.FAILED)
        turn.turn_ended = True
