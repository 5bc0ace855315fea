"""Utterances: speech goes to the tokenizer while it is spoken, and its tokens are awaited by whoever needs them.

    user speaks   ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
    push             ├──240 ms──┤├──240 ms──┤├ rest ┤ finish ──> tokens      one call at a time
    at a pause                               ├ rest ┤ peek ──> tokens so far, and the utterance goes on

A push that the tokenizer did not take is made good by the adapter, which keeps the utterance's audio; only the end can
fail. Requests carry no session: a reply's interruption makes rooms drop its older work, and what the user said is not
part of the reply.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from services.orchestrator.conversation.record import RoomName, RoomWork
from services.orchestrator.pipeline.input_audio import SAMPLES_PER_MS, InputAudio
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.ports.rooms import Tokenizer, Work
from services.shared.errors import (
    CancelledRequestError,
    DeadlineExceededError,
    StepAudioError,
)

_log = logging.getLogger(__name__)


class KnownUtterance:
    """An utterance whose tokens another replica has made.

    Args:
        tokens: all of them; none if they were not there yet.
    """

    def __init__(self, tokens: tuple[int, ...]) -> None:
        self._tokens = tokens

    @property
    def known_tokens(self) -> tuple[int, ...]:
        """As far as they are there."""
        return self._tokens

    async def tokens(self) -> tuple[int, ...]:
        """All its tokens."""
        return self._tokens

    async def tokens_before(self, end_sample: int) -> tuple[int, ...]:
        """All its tokens: it has ended."""
        return self._tokens


class SpokenUtterance:
    """One utterance, from its first sample to its tokens.

    Args:
        audio: the user's, all of it.
        first_sample: of the utterance in it.
        tokenizer: the room.
        work: what its requests carry.
        limits: batch and patience.
        clock: monotonic seconds.

    Attributes:
        first_sample: position of its first sample.
        end_sample: position after its last sample; None while it is open.
        cursor: position of the next sample that the tokenizer is given.
        finished_s: from when to when, in monotonic seconds, its last tokens were asked for.
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
        self.first_sample = first_sample
        self.cursor = first_sample
        self.finished_s = (0.0, 0.0)
        self._settled = first_sample
        self._audio = audio
        self._stream = tokenizer.listen(work)
        self._limits = limits
        self._clock = clock
        self._batch_samples = limits.utterance_batch_ms * SAMPLES_PER_MS
        self._rest = np.zeros(0, np.float32)
        self._peeks: deque[tuple[int, asyncio.Future[tuple[int, ...]]]] = deque()
        self._wake = asyncio.Event()
        self._is_over = asyncio.Event()
        self._tokens: tuple[int, ...] = ()
        self._error: StepAudioError | None = None
        self._requests = 0
        self._total_s = 0.0

    def settle(self, sample: int) -> None:
        """Audio before this sample belongs to it whatever comes; it costs a comparison."""
        self._settled = min(sample, self._audio.end_sample)
        if self._settled - self.cursor >= self._batch_samples:
            self._wake.set()

    def end(self, end_sample: int) -> None:
        """Nothing from this sample on belongs to it."""
        self.end_sample = max(end_sample, self.cursor)
        self._rest = self._audio.read(self.cursor, self.end_sample)
        self._wake.set()

    @property
    def known_tokens(self) -> tuple[int, ...]:
        """All its tokens, or none while they are not there."""
        return self._tokens

    async def tokens(self) -> tuple[int, ...]:
        """Wait for all its tokens.

        Raises:
            StepAudioError: they cannot be made, or the utterance was dropped.
        """
        await self._is_over.wait()
        if self._error is not None:
            raise self._error
        return self._tokens

    def newest_audio(self, end_sample: int, samples: int) -> NDArray[np.float32]:
        """Its audio before a sample, so much of it at most."""
        return self._audio.read(max(self.first_sample, end_sample - samples), end_sample)

    async def tokens_before(self, end_sample: int) -> tuple[int, ...]:
        """Ask for its tokens up to a sample while it is open; once it has ended, for all.

        Where audio behind that sample was given to the tokenizer already, its tokens are among them: it belongs to the
        utterance too.

        Raises:
            StepAudioError: they cannot be made, or the utterance was dropped.
        """
        if self.end_sample is not None:
            return await self.tokens()
        peek: asyncio.Future[tuple[int, ...]] = asyncio.get_running_loop().create_future()
        self._peeks.append((end_sample, peek))
        self._wake.set()
        return await peek

    @property
    def _finish_s(self) -> float:
        begun_s, ended_s = self.finished_s
        return ended_s - begun_s

    @property
    def work(self) -> RoomWork:
        """The tokenizer's work on it: its first output is what was asked for last."""
        return RoomWork(RoomName.TOKENIZER, self._requests, self._total_s, self._finish_s)

    async def run(self) -> None:
        """Push and finish; cancelling it drops the utterance."""
        try:
            while self.end_sample is None:
                if self._peeks:
                    await self._answer_peek(*self._peeks.popleft())
                elif self._settled - self.cursor >= self._batch_samples:
                    start, self.cursor = self.cursor, self._settled
                    await self._push(self._audio.read(start, self.cursor))
                else:
                    self._wake.clear()
                    await self._wake.wait()
            if len(self._rest):
                await self._push(self._rest)
            self._tokens = await self._ask(self._stream.finish)
        except StepAudioError as error:
            _log.warning("an utterance could not be tokenized", extra={"reason": error.reason}, exc_info=error)
            self._error = error
        except asyncio.CancelledError:
            self._error = CancelledRequestError("the utterance was dropped")
            raise
        except Exception as error:  # noqa: BLE001 - whatever the room does wrong costs this utterance and no more
            _log.error("an utterance failed by a fault of the server's", exc_info=error)
            self._error = StepAudioError("a fault of the server's; its log has the details")
        finally:
            self._is_over.set()
            self._answer_late()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.tokens_s):
                    await self._stream.abandon()

    async def _push(self, samples: NDArray[np.float32]) -> None:
        begun_s = self._clock()
        self._requests += 1
        try:
            async with asyncio.timeout(self._limits.tokens_s):
                await self._stream.push(samples)
        except (StepAudioError, TimeoutError) as error:
            _log.warning("the tokenizer missed a piece of speech; it is sent again", exc_info=error)
        finally:
            self._total_s += self._clock() - begun_s

    async def _answer_peek(self, end_sample: int, peek: "asyncio.Future[tuple[int, ...]]") -> None:
        """Give the tokenizer what it lacks up to a sample, and ask it; who does not wait any more is not answered."""
        if peek.done():
            return
        try:
            start, self.cursor = self.cursor, max(self.cursor, min(end_sample, self._audio.end_sample))
            if self.cursor > start:
                await self._push(self._audio.read(start, self.cursor))
            tokens = await self._ask(self._stream.peek)
        except Exception as error:  # noqa: BLE001 - whatever the room does wrong is for who asked
            if not peek.done():
                peek.set_exception(error)
        except asyncio.CancelledError:
            self._peeks.appendleft((end_sample, peek))
            raise
        else:
            if not peek.done():
                peek.set_result(tokens)

    def _answer_late(self) -> None:
        """Answer who asked before the utterance ended and was not answered yet."""
        for _, peek in self._peeks:
            if peek.done():
                continue
            if self._error is None:
                peek.set_result(self._tokens)
            else:
                peek.set_exception(self._error)
        self._peeks.clear()

    async def _ask(self, ask: Callable[[], Awaitable[tuple[int, ...]]]) -> tuple[int, ...]:
        begun_s = self._clock()
        self._requests += 1
        try:
            async with asyncio.timeout(self._limits.tokens_s):
                return await ask()
        except TimeoutError as error:
            raise DeadlineExceededError(f"the tokenizer gave no tokens within {self._limits.tokens_s:g} s") from error
        finally:
            self.finished_s = begun_s, self._clock()
            self._total_s += self._finish_s
