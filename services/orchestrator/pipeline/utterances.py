"""Utterances: speech goes to the tokenizer while it is spoken, and its tokens are awaited by whoever needs them.

    user speaks   ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
    push             ├──240 ms──┤├──240 ms──┤├ rest ┤ finish ──> tokens      one call at a time

A push that the tokenizer did not take is made good by the adapter, which keeps the utterance's audio; only the end can
fail. Requests carry no session: a reply's interruption makes rooms drop its older work, and what the user said is not
part of the reply.
"""

import asyncio
import logging
from collections.abc import Callable

from services.orchestrator.conversation.record import RoomName, RoomWork
from services.orchestrator.pipeline.input_audio import SAMPLES_PER_MS, InputAudio
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.ports.rooms import Tokenizer, Work
from services.shared.errors import (
    CancelledRequestError,
    DeadlineExceededError,
    RoomUnavailableError,
    StepAudioError,
)

_log = logging.getLogger(__name__)


class SpokenUtterance:
    """One utterance, from its first sample to its tokens.

    Args:
        first_sample: of its audio, which is read from `audio`.
        tokenizer: the room.
        work: what its requests carry.
        limits: batch and patience.
        clock: monotonic seconds.

    Attributes:
        end_sample: position after its last sample; None while it is open.
        cursor: position of the next sample that the tokenizer is given.
    """

    def __init__(
        self,
        audio: InputAudio,
        first_sample: int,
        *,
        tokenizer: Tokenizer,
        work: Work,
        limits: PipelineLimits,
        clock: Callable[[], float],
    ) -> None:
        self.end_sample: int | None = None
        self.cursor = first_sample
        self._settled = first_sample
        self._audio = audio
        self._stream = tokenizer.listen(work)
        self._limits = limits
        self._clock = clock
        self._batch_samples = limits.utterance_batch_ms * SAMPLES_PER_MS
        self._wake = asyncio.Event()
        self._is_over = asyncio.Event()
        self._tokens: tuple[int, ...] = ()
        self._error: StepAudioError | None = None
        self._requests = 0
        self._total_s = 0.0
        self._finish_s = 0.0

    def settle(self, sample: int) -> None:
        """Audio before this sample belongs to it whatever comes; it costs a comparison."""
        self._settled = sample
        if sample - self.cursor >= self._batch_samples:
            self._wake.set()

    def end(self, end_sample: int) -> None:
        """Nothing from this sample on belongs to it."""
        self.end_sample = end_sample
        self._wake.set()

    async def tokens(self) -> tuple[int, ...]:
        """Wait for all its tokens.

        Raises:
            StepAudioError: they cannot be made, or the utterance was dropped.
        """
        await self._is_over.wait()
        if self._error is not None:
            raise self._error
        return self._tokens

    @property
    def work(self) -> RoomWork:
        """The tokenizer's work on it: its first output is what `finish` gave."""
        return RoomWork(RoomName.TOKENIZER, self._requests, self._total_s, self._finish_s)

    async def run(self) -> None:
        """Push and finish; cancelling it drops the utterance."""
        try:
            while (samples_end := self._due()) is None or samples_end > self.cursor:
                if samples_end is None:
                    self._wake.clear()
                    await self._wake.wait()
                else:
                    await self._push(samples_end)
            self._tokens = await self._finish()
        except StepAudioError as error:
            _log.warning("an utterance could not be tokenized", extra={"reason": error.reason}, exc_info=error)
            self._error = error
        finally:
            if not self._tokens and self._error is None and self.end_sample is None:
                self._error = CancelledRequestError("the utterance was dropped")
            self._is_over.set()
            await self._stream.abandon()

    def _due(self) -> int | None:
        """Up to where the tokenizer can be given audio now; the cursor itself once all is given, None to wait."""
        available = self._audio.end_sample
        if self.end_sample is not None:
            return max(min(self.end_sample, available), self.cursor)
        settled = min(self._settled, available)
        return settled if settled - self.cursor >= self._batch_samples else None

    async def _push(self, end: int) -> None:
        samples = self._audio.read(self.cursor, end)
        self.cursor = end
        begun_s = self._clock()
        self._requests += 1
        try:
            async with asyncio.timeout(self._limits.tokens_s):
                await self._stream.push(samples)
        except (RoomUnavailableError, TimeoutError) as error:
            _log.warning("the tokenizer missed a piece of speech; it is sent again", exc_info=error)
        finally:
            self._total_s += self._clock() - begun_s

    async def _finish(self) -> tuple[int, ...]:
        begun_s = self._clock()
        self._requests += 1
        try:
            async with asyncio.timeout(self._limits.tokens_s):
                return await self._stream.finish()
        except TimeoutError as error:
            raise DeadlineExceededError(f"the tokenizer gave no tokens within {self._limits.tokens_s:g} s") from error
        finally:
            self._finish_s = self._clock() - begun_s
            self._total_s += self._finish_s
