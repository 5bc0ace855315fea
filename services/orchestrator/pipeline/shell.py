"""The shell of one conversation: it feeds the pure core with events, has its effects carried out, and keeps time.

            hear, tell                      effects
    stream ───────────> Session ──> core ────────────> acting ──> utterances, replies, transcripts (one TaskGroup)
       ^                   ^                             ├──────> keeping ──> the store
       └── sending ────────┼─────────────────────────────┘           │
                           └── ReplyTextMade, Transcribed, TurnCommitted, TimeReached …

Everything that a session runs stands in one TaskGroup: what fails on its own becomes an event; a fault of the shell
itself ends the stream with INTERNAL and releases everything.
"""

import asyncio
import logging
from collections import deque
from dataclasses import replace
from enum import StrEnum

from services.orchestrator.conversation import events as ev
from services.orchestrator.conversation.effects import Effect
from services.orchestrator.conversation.options import EndpointingMode, Options
from services.orchestrator.conversation.outputs import Refused
from services.orchestrator.pipeline.acting import Acting
from services.orchestrator.pipeline.core import Core
from services.orchestrator.pipeline.ending import Ending
from services.orchestrator.pipeline.identity import Fate, Identity, Opening
from services.orchestrator.pipeline.keeping import Keeping
from services.orchestrator.pipeline.limits import SEQUENCE_HEADROOM
from services.orchestrator.pipeline.listening import Listening
from services.orchestrator.pipeline.records import ended_turn
from services.orchestrator.pipeline.sending import Sending
from services.orchestrator.pipeline.session import Stream, StreamOpened
from services.orchestrator.pipeline.surroundings import Surroundings
from services.orchestrator.pipeline.timers import Timers
from services.orchestrator.pipeline.work import SessionWork
from services.orchestrator.ports.rooms import Samples
from services.orchestrator.ports.store import KeptTurn, Lease, Progress
from services.shared.errors import (
    DrainingError,
    InputEndedError,
    InputIdleError,
    OverloadedError,
    SessionDeletedError,
    SessionTakenOverError,
    SessionTooLongError,
    StepAudioError,
)

_log = logging.getLogger(__name__)


class _Deadline(StrEnum):
    IDLE = "idle"
    GO_AWAY = "go_away"
    TOO_LONG = "too_long"
    RESUME = "resume"
    CLOSING = "closing"


class _OverError(Exception):
    """Leaves the session's TaskGroup and cancels what it holds."""


class Session:
    """One conversation, for as long as it lives on this replica.

    Args:
        identity: which.
        core: decides.
        lease: the right to write it.
        shared: what all sessions have.
        first_sample: of the user's audio that is needed next.
    """

    def __init__(
        self, identity: Identity, core: Core, lease: Lease, shared: Surroundings, *, first_sample: int = 0
    ) -> None:
        self.identity = identity
        self.work = SessionWork(
            identity.session_id,
            identity.tenant,
            shared,
            lead_s=lambda: core.playout_lead_s(shared.clock()),
            slack_s=lambda: core.playout_slack_s(shared.clock()),
            tell=self.tell,
        )
        self._core = core
        self._shared = shared
        self._limits = shared.limits
        self._wall_s = shared.wall_s
        self._listening = Listening(
            shared.detector, shared.limits, first_sample=first_sample, told=self._frame, clock=shared.clock
        )
        self._timers: Timers[ev.Timer] = Timers(shared.clock, self._time_reached)
        self._deadlines: Timers[_Deadline] = Timers(shared.clock, self._deadline_reached)
        self._keeping = Keeping(shared.store, lease, shared.limits, chance=shared.chance, lost=self.lost)
        self._sending = Sending(
            age_s=lambda: shared.wall_clock() - identity.created_s,
            repeatable_turns=shared.limits.repeatable_turns,
            too_slow=lambda error: self._drop_stream(error, with_unread=False),
        )
        self._acting = Acting(
            work=self.work,
            listening=self._listening,
            keeping=self._keeping,
            timers=self._timers,
            sending=self._sending,
            wall_s=self._wall_s,
            committed=lambda turn: self.tell(ev.TurnCommitted(shared.clock(), turn)),
            end_stream=lambda: self.end(Fate.OVER, None),
        )
        self._ending = Ending()
        self._opening: Opening | None = None
        self._saved = core.epoch, core.released_sample
        self._told_s = 0.0
        self._touched_s = 0.0
        self._is_token_confirmed = False
        self._has_said_anything = False
        self._input_ended = False
        self._waiting: deque[tuple[ev.Event, int]] = deque()
        self._is_stepping = False
        self._is_ready = asyncio.Event()
        self._is_closing = False
        self._closing_error: StepAudioError | None = None

    # What the registry asks and does.

    @property
    def lease(self) -> Lease:
        """The right to write it."""
        return self._keeping.lease

    @property
    def is_attached(self) -> bool:
        """Whether it has a client now."""
        return self._sending.stream is not None

    @property
    def is_replying(self) -> bool:
        """Whether its caller is being answered."""
        return self._core.is_replying

    @property
    def is_over(self) -> bool:
        """Whether it ends or has ended here."""
        return self._ending.has_come

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        upper_bound = self.sequence + SEQUENCE_HEADROOM
        return Progress(self._core.epoch, upper_bound, self._core.released_sample, self.is_attached)

    @property
    def sequence(self) -> int:
        """Number of the last event that was given out."""
        return self._sending.sequence

    @property
    def can_resume(self) -> bool:
        """Whether a new stream can go on with it: it neither ends nor has ended."""
        return not self.is_over and not self._is_closing

    async def ready(self) -> None:
        """Wait until it can be attached to."""
        await self._is_ready.wait()

    def take_lease(self, lease: Lease) -> None:
        """Write with a newer lease from now on."""
        self._keeping.lease = lease

    def remember(self, turn: KeptTurn) -> None:
        """Another replica kept this turn, and the client that comes did not hear of it."""
        ended = ended_turn(turn, self._wall_s, reply_rate_hz=self._shared.rooms.vocoder.sample_rate_hz)
        self._sending.remember(turn.number, self._core.epoch, ended)

    def attach(self, opening: Opening) -> Stream:
        """Give it a new stream; an older one ends with SessionTakenOverError."""
        self.take_lease(opening.lease)
        self._leave_stream(SessionTakenOverError("a newer stream owns the session"), with_unread=False)
        now_s = self._shared.clock()
        self._deadlines.set(_Deadline.RESUME, None)
        self._deadlines.set(_Deadline.IDLE, now_s + self._limits.max_idle_s)
        self._touched_s, self._is_token_confirmed = now_s, False
        self._opening = opening
        self.work.traceparent = opening.traceparent
        stream = self._sending.stream = Stream(
            self,
            session_id=self.identity.session_id,
            tenant=self.identity.tenant,
            formats=self.identity.formats,
            received_sequence=opening.received_sequence,
            wall_s=self._wall_s,
            reply_rate_hz=self._shared.rooms.vocoder.sample_rate_hz,
            limits=self._limits,
        )
        self._options_changed()
        if opening.resumed is None:
            self._open_stream(opening)
        else:
            self._has_said_anything = True
            self.tell(opening.resumed)
        return stream

    def detach(self, stream: Stream) -> None:
        """The stream is over, however it ended."""
        if stream is self._sending.stream:
            self._drop_stream(None)

    def close_soon(self, reason: ev.GoAwayReason, time_left_s: float, *, resumable: bool) -> None:
        """Tell the client that the stream will be closed."""
        self.tell(ev.ClosingSoon(self._shared.clock(), reason, int(time_left_s * 1000), resumable))

    def close(self, error: StepAudioError | None) -> None:
        """End what is open, keep it, and then be over; the stream ends with the error, or with OK."""
        self._is_closing, self._closing_error = True, error
        self._deadlines.set(_Deadline.CLOSING, self._shared.clock() + self._limits.closing_s)
        self.tell(ev.Closed(self._shared.clock()))

    def end(self, fate: Fate, error: StepAudioError | None) -> None:
        """Be over now: all work is cancelled; the first call decides how."""
        self._ending.decide(fate, error)

    async def run(self) -> None:
        """Live until the end."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self.work.use(tasks)
                keeping = tasks.create_task(self._keeping.run())
                for loop in (self._listening, self._timers, self._deadlines):
                    tasks.create_task(loop.run())
                self._set_age()
                self._is_ready.set()
                await self._ending.wait()
                self.work.stop()
                if self._ending.fate is not Fate.LOST and not keeping.done():
                    await self._flush()
                raise _OverError
        except* _OverError:
            pass
        except* Exception as group:  # noqa: BLE001 - whatever failed that is not a room's is the shell's fault
            self._ending.fault(group)
        finally:
            self.end(Fate.RELEASED, DrainingError("the server shuts down"))
            self._is_ready.set()
            shared = self._shared
            await self._ending.tell_store(shared.store, self.lease, self.progress, within_s=shared.limits.store_s)
            self._leave_stream(self._ending.error)

    # What a stream says: `Host` of session.py.

    @property
    def options(self) -> Options:
        """In force."""
        return self._core.options

    @property
    def input_end_sample(self) -> int:
        """Position after the last sample heard."""
        return self._listening.end_sample

    def is_current(self, stream: Stream) -> bool:
        """Whether this is the newest stream."""
        return stream is self._sending.stream

    def hear(self, stream: Stream, samples: Samples, first_sample: int) -> None:
        """See `Stream.hear`."""
        if stream is not self._sending.stream:
            return
        self.touch(stream)
        if self._input_ended:
            raise InputEndedError("audio came after the end of input")
        try:
            self._listening.hear(samples, first_sample)
        except OverloadedError as error:
            self._drop_stream(error)

    def tell_from(self, stream: Stream, event: ev.Event, message_number: int) -> None:
        """See `Stream.tell`."""
        if stream is not self._sending.stream:
            return
        self.touch(stream)
        self._input_ended = self._input_ended or isinstance(event, ev.InputEnded)
        try:
            self._listening.after_audio(lambda: self.tell(event, message_number))
        except OverloadedError as error:
            self._drop_stream(error)

    def touch(self, stream: Stream) -> None:
        """See `Stream.touch`."""
        if stream is not self._sending.stream:
            return
        self._touched_s, self._has_said_anything = self._shared.clock(), True
        if not self._is_token_confirmed and self._opening is not None:
            self._is_token_confirmed = True
            self._keeping.confirm_token(self._opening.digest)

    def refuse(self, stream: Stream, error: StepAudioError, message_number: int) -> None:
        """See `Stream.refuse`."""
        if stream is self._sending.stream:
            self.touch(stream)
            self._sending.emit(0, self._core.epoch, Refused(error), message_number)

    # The core.

    def tell(self, event: ev.Event, message_number: int = 0) -> None:
        """Step the core and carry out what it asks for; an event that comes meanwhile is next."""
        self._waiting.append((event, message_number))
        if self._is_stepping:
            return
        self._is_stepping = True
        try:
            while self._waiting and not self.is_over:
                self._step(*self._waiting.popleft())
        except Exception as error:  # noqa: BLE001 - whatever is wrong here is the shell's fault and ends the session
            self._ending.fault(error)
        finally:
            self._waiting.clear()
            self._is_stepping = False

    def _step(self, event: ev.Event, message_number: int) -> None:
        if event.at_s < self._told_s:
            event = replace(event, at_s=self._told_s)
        self._told_s = event.at_s
        effects = self._core.step(event)
        if effects or not isinstance(event, ev.VoiceFrame):  # most frames have none, and there are many
            self._carry_out(event, effects, message_number)
        if self._listening.follows:
            self._acting.settle(self._core.settled_sample)
        if self._is_closing and self._core.has_ended:
            self.end(Fate.OVER, self._closing_error)

    def _carry_out(self, event: ev.Event, effects: tuple[Effect, ...], message_number: int) -> None:
        if isinstance(event, ev.Resumed) and self._opening is not None:
            self._open_stream(self._opening)
        for effect in effects:
            self._acting.act(effect, message_number)
        reached = self._core.epoch, self._core.released_sample
        if reached != self._saved:
            self._saved = reached
            self._keeping.save_progress(self.progress)
        if isinstance(event, ev.OptionsChanged):
            self._options_changed()
            self._keeping.save_options(self._core.options)

    def _frame(self, end_sample: int, probability: float) -> None:
        self.tell(ev.VoiceFrame(self._shared.clock(), end_sample, probability))

    def _time_reached(self, timer: ev.Timer) -> None:
        self.tell(ev.TimeReached(self._shared.clock(), timer))

    def _options_changed(self) -> None:
        taking = self._core.options.turn_taking
        self._listening.keeps_all = taking.mode is EndpointingMode.MANUAL

    # The stream.

    def _open_stream(self, opening: Opening) -> None:
        opened = StreamOpened(opening.token, opening.resumed is not None, self.input_end_sample, self.options)
        self._sending.open(self._core.epoch, opened, ended_turn=opening.ended_turn)

    def _drop_stream(self, error: StepAudioError | None, *, with_unread: bool = True) -> None:
        """The client is gone, or has to go: the session waits for it to come back."""
        self._leave_stream(error, with_unread=with_unread)
        if self.is_over or self._is_closing:
            return
        if not self._has_said_anything:
            self.end(Fate.DROPPED, error)
            return
        self._deadlines.set(_Deadline.RESUME, self._shared.clock() + self._limits.resume_window_s)
        self.tell(ev.Detached(self._shared.clock()))

    def _leave_stream(self, error: StepAudioError | None, *, with_unread: bool = True) -> None:
        if self._sending.leave(error, with_unread=with_unread):
            self._deadlines.set(_Deadline.IDLE, None)
            self._shared.observer.stream_ended(self.identity.session_id, error)

    # Time.

    def _set_age(self) -> None:
        left_s = self._limits.max_session_s - (self._shared.wall_clock() - self.identity.created_s)
        ends_s = self._shared.clock() + left_s
        self._deadlines.set(_Deadline.GO_AWAY, ends_s - self._limits.go_away_s)
        self._deadlines.set(_Deadline.TOO_LONG, ends_s)

    def _deadline_reached(self, deadline: _Deadline) -> None:
        limits, now_s = self._limits, self._shared.clock()
        match deadline:
            case _Deadline.IDLE:
                idle_until_s = self._touched_s + limits.max_idle_s
                if now_s < idle_until_s:
                    self._deadlines.set(_Deadline.IDLE, idle_until_s)
                else:
                    self._drop_stream(InputIdleError(f"no message came for {limits.max_idle_s:g} s"))
            case _Deadline.GO_AWAY:
                self.close_soon(ev.GoAwayReason.SESSION_TOO_LONG, limits.go_away_s, resumable=False)
            case _Deadline.TOO_LONG:
                self.close(SessionTooLongError(f"a session lasts {limits.max_session_s:g} s at most"))
            case _Deadline.RESUME:
                self.close(None)
            case _Deadline.CLOSING:
                self.end(Fate.OVER, self._closing_error)

    # The end.

    def lost(self, error: StepAudioError) -> None:
        """The store says that the session cannot be written any more."""
        is_gone = isinstance(error, SessionTakenOverError | SessionDeletedError)
        self.end(Fate.LOST if is_gone else Fate.RELEASED, error)

    async def _flush(self) -> None:
        try:
            async with asyncio.timeout(self._limits.closing_s):
                await self._keeping.flushed()
        except TimeoutError:
            _log.error("a session ends with turns that the store did not take")
