"""A conversation for tests: a clock that stands still, a user in frames of 32 ms, work that brings what it is told."""

from typing import TypeVar

from services.orchestrator.conversation import Past, State, begin, step
from services.orchestrator.conversation.effects import Effect, Emit, StartReply
from services.orchestrator.conversation.events import (
    Acknowledged,
    EndOfTurn,
    Event,
    InputEnded,
    Playback,
    ReplyAudioMade,
    ReplyFailed,
    ReplyId,
    ReplyMade,
    ReplyStopped,
    ReplyTextMade,
    ReplyTiming,
    Say,
    TextTurn,
    Timer,
    TimeReached,
    Transcribed,
    TurnCommitted,
    VoiceFrame,
)
from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.outputs import Output
from services.orchestrator.conversation.record import FirstAudioMarks, Message, ReplyWork
from services.shared.errors import StepAudioError

RATE_HZ = 1000
"""Of replies in tests: a sample is a millisecond."""

FRAME_SAMPLES = 512
WORK = ReplyWork(prompt_tokens=7, text_tokens=3, speech_tokens=5)
T = TypeVar("T")


class Talk:
    """Drives the core and keeps all its effects."""

    def __init__(
        self,
        options: Options | None = None,
        *,
        history: tuple[Message, ...] = (),
        past: Past | None = None,
        seed: int | None = None,
        resumes_replies: bool = False,
    ) -> None:
        self.state: State = begin(
            options or Options(),
            reply_rate_hz=RATE_HZ,
            history=history,
            past=past,
            seed=seed,
            resumes_replies=resumes_replies,
        )
        self.now_s = 100.0
        self.heard = self.state.ears.end_sample
        self.effects: list[Effect] = []

    def tell(self, event: Event) -> tuple[Effect, ...]:
        """One event; its effects."""
        self.state, effects = step(self.state, event)
        self.effects += effects
        return effects

    def wait(self, ms: int) -> None:
        """Time passes."""
        self.now_s += ms / 1000

    def later(self, ms: int) -> "Talk":
        """Time passes, and the talk goes on."""
        self.wait(ms)
        return self

    def audio(self, ms: int, probability: float) -> tuple[Effect, ...]:
        """The user's audio in real time, whole frames."""
        effects: tuple[Effect, ...] = ()
        for _ in range(ms // 32):
            self.wait(32)
            self.heard += FRAME_SAMPLES
            effects += self.tell(VoiceFrame(self.now_s, self.heard, probability))
        return effects

    def speak(self, ms: int = 640) -> tuple[Effect, ...]:
        """The user speaks."""
        return self.audio(ms, 0.9)

    def hush(self, ms: int = 960) -> tuple[Effect, ...]:
        """The user is silent."""
        return self.audio(ms, 0.05)

    def say_turn(self) -> tuple[Effect, ...]:
        """The user speaks, then the turn ends by silence."""
        self.speak()
        return self.hush()

    def text(self, request_id: str = "a", text: str = "hello", *, after_reply: bool = False) -> tuple[Effect, ...]:
        """The user writes."""
        timing = ReplyTiming.AFTER_REPLY if after_reply else ReplyTiming.INTERRUPT
        return self.tell(TextTurn(self.now_s, request_id, text, timing))

    def say(self, request_id: str = "s", text: str = "Welcome.", *, after_reply: bool = False) -> tuple[Effect, ...]:
        """The client has the agent say something."""
        timing = ReplyTiming.AFTER_REPLY if after_reply else ReplyTiming.INTERRUPT
        return self.tell(Say(self.now_s, request_id, text, timing))

    def end_turn(self) -> tuple[Effect, ...]:
        """The client ends the user's turn."""
        return self.tell(EndOfTurn(self.now_s, self.heard))

    def end_input(self) -> tuple[Effect, ...]:
        """The user says nothing more."""
        return self.tell(InputEnded(self.now_s, self.heard))

    @property
    def live(self) -> ReplyId:
        """The reply under way."""
        assert self.state.live_reply is not None
        return self.state.live_reply

    def make_text(self, text: str, reply: ReplyId | None = None) -> tuple[Effect, ...]:
        """The work brings text."""
        return self.tell(ReplyTextMade(self.now_s, reply or self.live, text))

    def make_audio(
        self,
        first: int,
        end: int,
        characters: int,
        *,
        reply: ReplyId | None = None,
        samples: object = b"samples",
        marks: FirstAudioMarks | None = None,
    ) -> tuple[Effect, ...]:
        """The work brings samples."""
        event = ReplyAudioMade(self.now_s, reply or self.live, first, end, characters, samples, marks)
        return self.tell(event)

    def made(self, reply: ReplyId | None = None) -> tuple[Effect, ...]:
        """The work is done."""
        return self.tell(ReplyMade(self.now_s, reply or self.live, WORK))

    def failed(self, error: StepAudioError, reply: ReplyId | None = None) -> tuple[Effect, ...]:
        """The work has failed."""
        return self.tell(ReplyFailed(self.now_s, reply or self.live, error, WORK))

    def stopped(self, reply: ReplyId) -> tuple[Effect, ...]:
        """The cancelled work has let go."""
        return self.tell(ReplyStopped(self.now_s, reply, WORK))

    def reply(self, text: str = "It rains today.", ms: int = 1000) -> tuple[Effect, ...]:
        """The work brings a whole reply at once."""
        effects = self.make_text(text) + self.make_audio(0, ms, len(text))
        return effects + self.made()

    def reply_from(self, first: int, text: str, ms: int = 1000) -> tuple[Effect, ...]:
        """The work brings the rest of a reply at once."""
        effects = self.make_text(text)
        assert self.state.live is not None
        return effects + self.make_audio(first, first + ms, len(self.state.live.text)) + self.made()

    def heard_all(self) -> tuple[Effect, ...]:
        """The client has heard the live reply to its end."""
        live = self.state.live
        assert live is not None
        return self.acknowledge(live.number, live.playout.sent_samples)

    def acknowledge(self, turn: int, played: int, underruns: int = 0) -> tuple[Effect, ...]:
        """The client says what it heard."""
        return self.tell(Acknowledged(self.now_s, Playback(turn, played, underruns)))

    def transcribed(self, utterance: int, text: str) -> tuple[Effect, ...]:
        """The user's words are there."""
        return self.tell(Transcribed(self.now_s, utterance, text, is_final=True))

    def committed(self, turn: int) -> tuple[Effect, ...]:
        """The store has a turn."""
        return self.tell(TurnCommitted(self.now_s, turn))

    def time(self, timer: Timer) -> tuple[Effect, ...]:
        """A moment has come."""
        return self.tell(TimeReached(self.now_s, timer))


def outputs(effects: tuple[Effect, ...] | list[Effect]) -> list[Output]:
    """What the client is told by effects."""
    return [effect.output for effect in effects if isinstance(effect, Emit)]


def names(effects: tuple[Effect, ...] | list[Effect]) -> list[str]:
    """Names of effects; of what the client is told, those of the outputs."""
    return [type(effect.output if isinstance(effect, Emit) else effect).__name__ for effect in effects]


def all_of(effects: tuple[Effect, ...] | list[Effect], kind: type[T]) -> list[T]:
    """Effects or outputs of one kind."""
    found = [effect for effect in effects if isinstance(effect, kind)]
    return found + [output for output in outputs(effects) if isinstance(output, kind)]


def one(effects: tuple[Effect, ...] | list[Effect], kind: type[T]) -> T:
    """The only effect or output of a kind."""
    found = all_of(effects, kind)
    assert len(found) == 1, f"{len(found)} {kind.__name__} in {names(effects)}"
    return found[0]


def spoken_context(effects: tuple[Effect, ...]) -> tuple[Message, ...]:
    """What the reply that these effects start reads."""
    return one(effects, StartReply).context
