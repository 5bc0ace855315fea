"""Carrying out what the core asks for: each effect is one call of what does it.

Emit ─────────────────────────────> sending ──> the client
OpenUtterance, StartReply … ──────> work, a task of the session's TaskGroup
CommitTurn, SaveOpenTurn ─────────> keeping ──> the store ──> TurnCommitted
SetTimer, EndStream
"""

from collections.abc import Callable
from typing import Any

from services.orchestrator.conversation import effects as fx
from services.orchestrator.conversation.events import Timer
from services.orchestrator.conversation.outputs import Interrupted, Refused
from services.orchestrator.pipeline.keeping import Keeping
from services.orchestrator.pipeline.listening import Listening
from services.orchestrator.pipeline.records import kept_turn
from services.orchestrator.pipeline.sending import Sending
from services.orchestrator.pipeline.timers import Timers
from services.orchestrator.pipeline.utterances import SpokenUtterance
from services.orchestrator.pipeline.work import SessionWork


class Acting:
    """Carries out the effects of one session's core.

    Args:
        work, listening, keeping, timers, sending: what does it.
        wall_s: what added to a monotonic time gives wall time.
        committed: told the number of each turn that the store has.
        end_stream: ends the session's stream, with OK.
    """

    def __init__(
        self,
        *,
        work: SessionWork,
        listening: Listening,
        keeping: Keeping,
        timers: Timers[Timer],
        sending: Sending,
        wall_s: float,
        committed: Callable[[int], None],
        end_stream: Callable[[], None],
    ) -> None:
        self._work = work
        self._listening = listening
        self._keeping = keeping
        self._timers = timers
        self._sending = sending
        self._wall_s = wall_s
        self._committed = committed
        self._end_stream = end_stream
        self._open_utterance: SpokenUtterance | None = None
        self._act_by_type = self._acts()

    def act(self, effect: fx.Effect, message_number: int) -> None:
        """Carry out an effect of the event that came with this message; 0 where it came with none."""
        self._act_by_type[type(effect)](effect, message_number)

    def settle(self, sample: int) -> None:
        """The user's audio before this sample belongs to the open utterance whatever comes."""
        if self._open_utterance is not None:
            self._open_utterance.settle(sample)

    def _acts(self) -> dict[type[Any], Callable[[Any, int], None]]:
        """How each effect is carried out; Any: each takes its own type."""
        return {
            fx.Emit: self._emit,
            fx.OpenUtterance: lambda effect, _: self._begin_utterance(effect),
            fx.EndUtterance: lambda effect, _: self._end_utterance(effect),
            fx.DropUtterance: lambda effect, _: self._drop_utterance(effect),
            fx.AskTurnModel: lambda effect, _: self._work.judge_turn(effect.utterance, effect.end_sample),
            fx.StartReply: lambda effect, _: self._work.start_reply(effect),
            fx.CommitReply: lambda effect, _: self._work.commit_reply(effect.reply),
            fx.ResumeReply: lambda effect, _: self._work.resume_reply(effect),
            fx.CancelReply: lambda effect, _: self._work.cancel_reply(effect.reply, may_resume=effect.may_resume),
            fx.RunTool: lambda effect, _: self._work.run_tool(effect),
            fx.CancelTool: lambda effect, _: self._work.cancel_tool(effect.call_id),
            fx.Transcribe: lambda effect, _: self._work.transcribe(effect.utterance, effect.end_sample),
            fx.CommitTurn: lambda effect, _: self._commit(effect),
            fx.SaveOpenTurn: lambda effect, _: self._save_open_turn(effect),
            fx.SetTimer: lambda effect, _: self._timers.set(effect.timer, effect.at_s),
            fx.EndStream: lambda effect, _: self._end_stream(),
        }

    def _emit(self, effect: fx.Emit, message_number: int) -> None:
        is_answer = isinstance(effect.output, Refused)
        self._sending.emit(effect.turn, effect.epoch, effect.output, message_number if is_answer else 0)
        if isinstance(effect.output, Interrupted) and (stream := self._sending.stream) is not None:
            stream.when_taken(self._work.silencing(effect.output.reason, self._listening.cause_s))

    def _begin_utterance(self, effect: fx.OpenUtterance) -> None:
        self._open_utterance = self._work.open_utterance(effect.utterance, effect.first_sample, self._listening.audio)
        self._listening.follows = True

    def _end_utterance(self, effect: fx.EndUtterance) -> None:
        self._work.end_utterance(effect.utterance, effect.end_sample)
        self._open_utterance, self._listening.follows = None, False

    def _drop_utterance(self, effect: fx.DropUtterance) -> None:
        if self._work.drop_utterance(effect.utterance) is self._open_utterance:
            self._open_utterance, self._listening.follows = None, False

    def _save_open_turn(self, effect: fx.SaveOpenTurn) -> None:
        stream = self._sending.stream if effect.basis is not None and effect.basis.text else None
        self._keeping.save_open_turn(self._work.open_turn(effect), None if stream is None else stream.hold())

    def _commit(self, effect: fx.CommitTurn) -> None:
        record = effect.record
        self._work.turn_ended(record)
        kept = kept_turn(record, self._wall_s)
        self._keeping.commit(kept, lambda: self._committed(record.number))
