"""The work that a session's core asks for: utterances, replies and transcripts, each a task of the session's TaskGroup.

Whatever becomes of a task, the core hears exactly one event of it: a room that fails, in whatever way, fails one reply
or one transcript, and the session goes on.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, TypeAlias

from services.orchestrator.conversation.effects import ResumeReply, RunTool, SaveOpenTurn, StartReply
from services.orchestrator.conversation.events import (
    Event,
    ReplyFailed,
    ReplyId,
    ReplyMade,
    ReplyStopped,
    ReplyTakenUp,
    Transcribed,
    TurnJudged,
)
from services.orchestrator.conversation.outputs import InterruptionReason
from services.orchestrator.conversation.record import TurnRecord
from services.orchestrator.pipeline.input_audio import InputAudio
from services.orchestrator.pipeline.made import Made
from services.orchestrator.pipeline.meter import Meter
from services.orchestrator.pipeline.rations import Preparing
from services.orchestrator.pipeline.records import open_turn
from services.orchestrator.pipeline.replies import Reply, ReplyNeeds
from services.orchestrator.pipeline.surroundings import Surroundings
from services.orchestrator.pipeline.tools import ToolCalls
from services.orchestrator.pipeline.utterances import KnownUtterance, SpokenUtterance
from services.orchestrator.pipeline.window import ContextWindow
from services.orchestrator.ports.hearing import TURN_SAMPLES
from services.orchestrator.ports.rooms import Samples, Work
from services.orchestrator.ports.store import OpenTurn
from services.shared.errors import CancelledRequestError, DeadlineExceededError, StepAudioError

MAX_SEED: Final = 2**31 - 1
"""Of the seeds that are drawn."""

_ReplyTask: TypeAlias = asyncio.Task[ReplyMade | ReplyFailed]

_log = logging.getLogger(__name__)


class SessionWork:
    """What one session has under way.

    Args:
        session_id, tenant: the session's.
        shared: what all sessions have.
        lead_s: how far the audio that was sent runs ahead of what was heard.
        slack_s: the same, of a listener who hears no faster than in real time.
        tell: takes events for the core.

    Attributes:
        traceparent: W3C trace context of the session's newest call, which new work belongs to.
    """

    def __init__(
        self,
        session_id: str,
        tenant: str,
        shared: Surroundings,
        *,
        lead_s: Callable[[], float],
        slack_s: Callable[[], float],
        tell: Callable[[Event], None],
    ) -> None:
        self.traceparent = ""
        self._session_id = session_id
        self._shared = shared
        self._tell = tell
        self._tasks: asyncio.TaskGroup | None = None
        self._utterances: dict[int, SpokenUtterance] = {}
        self._tokenizing: dict[int, asyncio.Task[None]] = {}
        self._replies: dict[ReplyId, tuple[Reply, _ReplyTask]] = {}
        self._preparing = Preparing(shared.rations, tenant)
        self._made: dict[ReplyId, Made] = {}
        self._foreign: dict[int, KnownUtterance] = {}
        self._calls = ToolCalls(session_id, tenant, shared.tools, clock=shared.clock, tell=tell)
        self._needs = ReplyNeeds(
            rooms=shared.rooms,
            find_voice=lambda voice_id: shared.voices.find(tenant, voice_id),
            utterance=self._utterance,
            lead_s=lead_s,
            tell=tell,
            clock=shared.clock,
            limits=shared.limits,
            window=ContextWindow(
                shared.rooms.chat,
                shared.limits,
                default_prompt=shared.default_prompt,
                spawn=lambda summary: self._group.create_task(summary),
            ),
            rations=shared.rations,
            slack_s=slack_s,
        )

    def use(self, tasks: asyncio.TaskGroup) -> None:
        """From now on work can begin, in this group."""
        self._tasks = tasks
        self._calls.use(tasks)

    def open_utterance(self, number: int, first_sample: int, audio: InputAudio) -> SpokenUtterance:
        """Begin to tokenize what is spoken from this sample on."""
        utterance = SpokenUtterance(
            audio,
            first_sample,
            tokenizer=self._shared.rooms.tokenizer,
            work=Work(traceparent=self.traceparent),
            limits=self._shared.limits,
            clock=self._shared.clock,
        )
        self._utterances[number] = utterance
        self._tokenizing[number] = self._group.create_task(utterance.run())
        return utterance

    def end_utterance(self, number: int, end_sample: int) -> None:
        """No audio from this sample on belongs to it."""
        if number in self._utterances:
            self._utterances[number].end(end_sample)

    def drop_utterance(self, number: int) -> SpokenUtterance | None:
        """Forget it and its tokens; returns what was dropped."""
        self._foreign.pop(number, None)
        if number not in self._utterances:
            return None
        self._tokenizing.pop(number).cancel()
        return self._utterances.pop(number)

    def start_reply(self, effect: StartReply) -> None:
        """Work out a reply; reports text and audio, then ReplyMade, ReplyFailed or ReplyStopped."""
        self._preparing.begun(effect.reply, is_prepared=effect.is_speculative)
        before = self._newest_made(effect.reply.turn) if effect.first_sample else None
        self._begin_reply(effect, Made() if before is None else before.following())

    def resume_reply(self, effect: ResumeReply) -> None:
        """Go on with a reply that was stopped, if what was made of it is there; reports ReplyTakenUp first."""
        made = self._made.pop(effect.stopped, None)
        if (
            made is None
            or effect.seed is None
            or not (effect.first_sample >= effect.part_sample or made.covers(effect.first_sample))
        ):
            self._tell(ReplyTakenUp(self._shared.clock(), effect.reply, can_go_on=False))
            return
        if not made.is_foreign:
            self._tell(ReplyTakenUp(self._shared.clock(), effect.reply, can_go_on=True))
        self._begin_reply(effect, made.copy())  # the stopped work may still be letting go

    def open_turn(self, effect: SaveOpenTurn) -> OpenTurn:
        """The turn under way as it is kept, with what its reply is made again from."""
        made = self._newest_made(effect.number) or Made()
        spoken = None if effect.basis is None else effect.basis.utterance
        utterance = None if spoken is None else self._utterances.get(spoken.number) or self._foreign.get(spoken.number)
        return open_turn(effect, made, () if utterance is None else utterance.known_tokens)

    def take_over(self, turn: OpenTurn, epoch: int) -> None:
        """Another replica had this turn under way, in this epoch."""
        if turn.basis is None:
            return
        made = Made(turn.written, turn.is_written, is_foreign=True)
        self._made[ReplyId(turn.number, epoch)] = made
        if turn.basis.utterance is not None:
            self._foreign[turn.basis.utterance.number] = KnownUtterance(turn.tokens)

    def turn_ended(self, record: TurnRecord) -> None:
        """Tell who watches; none of its replies goes on any more."""
        self._shared.observer.turn_ended(self._session_id, record)
        self._made = {reply: made for reply, made in self._made.items() if reply.turn != record.number}

    def silencing(self, reason: InterruptionReason, cause_s: float | None) -> Callable[[], None]:
        """A reply is interrupted: give what tells who watches, once the client was told to fall silent.

        Args:
            reason: why.
            cause_s: when what interrupts came from the client; None is now.
        """
        shared = self._shared
        begun_s = shared.clock() if cause_s is None else cause_s
        return lambda: shared.observer.silenced(self._session_id, reason, shared.clock() - begun_s)

    def _newest_made(self, turn: int) -> Made | None:
        replies = [reply for reply in self._made if reply.turn == turn]
        return self._made[max(replies)] if replies else None

    def _begin_reply(self, effect: StartReply | ResumeReply, made: Made) -> None:
        trace = self._shared.observer.reply(self._session_id, effect.reply, self.traceparent)
        meter = Meter(self._shared.clock, trace)
        work = Work(self._session_id, effect.reply.turn, effect.reply.epoch, trace.traceparent)
        seed = self._shared.chance.randint(0, MAX_SEED) if effect.seed is None else effect.seed
        reply = Reply(effect, self._needs, work=work, meter=meter, seed=seed, made=made)
        task = self._group.create_task(self._reply(effect.reply, reply, meter))
        self._replies[effect.reply] = reply, task
        self._made[effect.reply] = reply.made

        def over(done: _ReplyTask) -> None:
            del self._replies[effect.reply]
            event: ReplyMade | ReplyFailed | ReplyStopped
            if done.cancelled():
                event = ReplyStopped(self._shared.clock(), effect.reply, meter.work())
            else:
                event = done.result()
            self._preparing.over(effect.reply, event.work, is_complete=isinstance(event, ReplyMade))
            trace.end(event.error if isinstance(event, ReplyFailed) else None)
            self._tell(event)

        task.add_done_callback(over)

    def commit_reply(self, reply: ReplyId) -> None:
        """It was prepared ahead and is spoken now."""
        self._preparing.committed(reply)
        if reply in self._replies:
            self._replies[reply][0].commit()

    def cancel_reply(self, reply: ReplyId, *, may_resume: bool = False) -> None:
        """Stop every room's work for it; what was made of it is kept if it may go on."""
        if not may_resume:
            self._made.pop(reply, None)
        if reply in self._replies:
            self._replies[reply][1].cancel()

    def run_tool(self, effect: RunTool) -> None:
        """Run a function that the client does not run; reports ToolAnswered, unless it is cancelled."""
        self._calls.run(effect, self.traceparent)

    def cancel_tool(self, call_id: str) -> None:
        """Nobody waits for a function's answer any more."""
        self._calls.cancel(call_id)

    def transcribe(self, number: int, end_sample: int | None) -> None:
        """Write down an utterance that has ended, or one that is open as far as it was heard before a sample."""
        self._group.create_task(self._transcribe(number, end_sample))

    def judge_turn(self, number: int, end_sample: int) -> None:
        """Judge whether the turn of the open utterance is complete, from its newest audio before a sample."""
        samples = self._utterances[number].newest_audio(end_sample, TURN_SAMPLES)
        self._group.create_task(self._judge_turn(number, end_sample, samples))

    def stop(self) -> None:
        """Cancel every reply and utterance."""
        self._calls.stop()
        for reply in list(self._replies):
            self.cancel_reply(reply)
        for number in list(self._utterances):
            self.drop_utterance(number)

    @property
    def _group(self) -> asyncio.TaskGroup:
        assert self._tasks is not None
        return self._tasks

    def _utterance(self, number: int) -> SpokenUtterance | KnownUtterance:
        utterance = self._utterances.get(number) or self._foreign.get(number)
        if utterance is None:
            raise CancelledRequestError(f"utterance {number} was dropped")
        return utterance

    async def _reply(self, reply: ReplyId, work: Reply, meter: Meter) -> ReplyMade | ReplyFailed:
        clock = self._shared.clock
        try:
            await work.run()
        except Exception as error:  # noqa: BLE001 - whatever a room does wrong ends this reply and no more
            return ReplyFailed(clock(), reply, _own(error, "a reply"), meter.work())
        return ReplyMade(clock(), reply, meter.work())

    async def _judge_turn(self, utterance: int, end_sample: int, samples: Samples) -> None:
        """Report a judgement; without a model that answers, it is that silence alone decides."""
        probability, model = 1.0, self._shared.turn_model
        try:
            if model is not None:
                async with asyncio.timeout(self._shared.limits.turn_model_s):
                    probability = await model.judge(samples)
        except TimeoutError as error:
            _own(DeadlineExceededError(f"no judgement came: {error!r}"), "a judgement of a turn")
        except Exception as error:  # noqa: BLE001 - a turn that ends by silence is better than no turn
            _own(error, "a judgement of a turn")
        self._tell(TurnJudged(self._shared.clock(), utterance, end_sample, probability))

    async def _transcribe(self, number: int, end_sample: int | None) -> None:
        """Report a transcript: an empty one if none could be made, and of open speech none at all.

        That no words were understood so far would let speech be forgotten; that nothing is known does not.
        """
        text, is_known = "", False
        try:
            async with asyncio.timeout(self._shared.limits.transcript_s):
                utterance = self._utterance(number)
                tokens = await (utterance.tokens() if end_sample is None else utterance.tokens_before(end_sample))
                if tokens:
                    # No session: the interruption of a reply makes rooms drop the session's older work, not this.
                    text = await self._shared.rooms.chat.transcribe(tokens, Work())
                is_known = True
        except TimeoutError as error:
            _own(DeadlineExceededError(f"no transcript came: {error!r}"), "a transcript")
        except Exception as error:  # noqa: BLE001 - a turn without words is better than no turn
            _own(error, "a transcript")
        if is_known or end_sample is None:
            is_final = end_sample is None
            self._tell(Transcribed(self._shared.clock(), number, text, is_final=is_final, end_sample=end_sample or 0))


def _own(error: Exception, what: str) -> StepAudioError:
    """An error as one of the project's own, logged; what is none of them is a fault of the server's."""
    if isinstance(error, StepAudioError):
        _log.warning("%s failed", what, extra={"reason": error.reason}, exc_info=error)
        return error
    _log.error("%s failed by a fault of the server's", what, exc_info=error)
    fault = StepAudioError("a fault of the server's; its log has the details")
    fault.__cause__ = error
    return fault
