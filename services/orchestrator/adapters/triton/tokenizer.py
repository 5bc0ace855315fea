"""The tokenizer room: one sequence an utterance, begun again from kept audio when its server is lost.

    push   a ──> START a      push   b ──> b      finish ──> END, peek ──> all tokens
                      the server is killed ──X
    push   c ──> START a b c  under a new id, on another server if there is one     finish ──> END, peek ──> all tokens

After any call that failed it is unknown what the server has heard, so its sequence is given up and the next request
replays. A sequence that was given up is ended on its server in the background, so that it holds no slot until the
server's own idle limit; whoever closes the tokenizer waits for that. A request that is under way is not cancelled but
let run, for the END must not overtake it: the server would refuse the one and keep what the other begins. The room's
default mode `whole` is used: tokens are asked for at the end, and at a pause with `peek`.
"""

import asyncio
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from services.orchestrator.adapters.triton.asking import context_of
from services.orchestrator.adapters.triton.servers import Server, Servers
from services.orchestrator.ports.rooms import Work
from services.shared.audio.pcm import as_mono
from services.shared.audio.speech_input import HEARD_RATE_HZ
from services.shared.errors import AudioTooLongError, InvalidInputError, RoomUnavailableError, StepAudioError
from services.shared.triton.specs import SPEECH_TOKENIZER
from services.shared.triton.tensors import Array
from services.shared.triton.wire import SequencePlace

MAX_UTTERANCE_S: Final = 60
"""Of audio that an utterance keeps; twice the longest that a conversation lets a user speak."""
_REPLAY_SAMPLES: Final = 10 * HEARD_RATE_HZ
"""A replay goes in pieces, between which the utterances beside it have their turn."""
_END_TIMEOUT_S: Final = 5.0
_NOTHING: Final = np.zeros(0, np.float32)


class _Sequence:
    """A sequence on a server.

    Attributes:
        server: where it is.
        name: its correlation id.
        heard: samples that the server has.
        asking: the last request.
    """

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name
        self.heard = 0
        self.asking: asyncio.Task[dict[str, Array]] | None = None


class TritonUtterance:
    """Speech that is tokenized while it is spoken. Calls come one at a time."""

    def __init__(self, tokenizer: "TritonTokenizer", work: Work) -> None:
        """Args: tokenizer: that made it. work: whose it is."""
        self._tokenizer = tokenizer
        self._work = work
        self._kept = np.zeros(HEARD_RATE_HZ, np.float32)
        self._samples = 0
        self._sequence: _Sequence | None = None
        self._lost: Server | None = None

    async def push(self, samples: ArrayLike) -> None:
        """Hear the next samples; they are kept whatever happens to the call.

        Args:
            samples: [N] float at 16 kHz.

        Raises:
            NonFiniteAudioError, AudioError: they are no audio, and are not kept.
            AudioTooLongError: the utterance would be longer than `MAX_UTTERANCE_S`; they are not kept.
            RoomUnavailableError, DeadlineExceededError: the tokenizer is gone; the next call tries again.
        """
        if np.size(samples) == 0:
            return
        self._keep(as_mono(samples))
        await self._send(end=False, peek=False)

    async def peek(self) -> tuple[int, ...]:
        """Ask for the tokens of what was heard so far; the utterance goes on.

        Returns:
            Its tokens [T], whole groups of codec values; none if it is shorter than one group.

        Raises:
            RoomUnavailableError, DeadlineExceededError: the tokenizer is gone, also after another try.
        """
        return tuple(await self._send(end=False, peek=True)) if self._samples else ()

    async def finish(self) -> tuple[int, ...]:
        """End the utterance.

        Returns:
            All its tokens [T], whole groups of codec values; none if it is shorter than one group.

        Raises:
            RoomUnavailableError, DeadlineExceededError: the tokenizer is gone, also after another try.
        """
        if not self._samples:
            return ()
        tokens = await self._send(end=True, peek=True)
        self._kept, self._samples = _NOTHING, 0
        return tuple(tokens)

    async def abandon(self) -> None:
        """Let go of the utterance; it never fails, waits for nothing, and may follow any call that did not return."""
        self._kept, self._samples = _NOTHING, 0
        self._give_up()

    def _keep(self, samples: NDArray[np.float32]) -> None:
        total = self._samples + len(samples)
        if total > MAX_UTTERANCE_S * HEARD_RATE_HZ:
            raise AudioTooLongError(f"an utterance has at most {MAX_UTTERANCE_S} s", limit=str(MAX_UTTERANCE_S))
        if total > len(self._kept):
            self._kept = np.concatenate([self._kept, np.zeros(max(total, len(self._kept)), np.float32)])
        self._kept[self._samples : total] = samples
        self._samples = total

    async def _send(self, *, end: bool, peek: bool) -> list[int]:
        """Send what the server lacks; if the server is lost, once more, from the first sample to another one."""
        was_known = self._sequence is not None
        try:
            return await self._try(end=end, peek=peek)
        except RoomUnavailableError:
            pass
        except InvalidInputError as error:
            # What was sent is sound, so this plain error says that the server does not know the sequence any more.
            if not was_known or type(error) is not InvalidInputError:
                raise
        return await self._try(end=end, peek=peek)

    async def _try(self, *, end: bool, peek: bool) -> list[int]:
        """Send what the server lacks; a failure of any kind gives the sequence up."""
        if self._sequence is None:
            self._sequence = await self._tokenizer.begin(self._work, other_than=self._lost)
        sequence = self._sequence
        try:
            tokens = await self._request(sequence, end=end, peek=peek)
            while sequence.heard < self._samples:
                tokens = await self._request(sequence, end=end, peek=peek)
        except BaseException:
            self._lost = sequence.server
            self._give_up()
            raise
        if end:
            self._sequence = None
            await self._tokenizer.ended(sequence)
        return tokens

    async def _request(self, sequence: _Sequence, *, end: bool, peek: bool) -> list[int]:
        until = min(self._samples, sequence.heard + _REPLAY_SAMPLES)
        is_last = until == self._samples
        tensors = {"pcm": self._kept[sequence.heard : until], **({"peek": [True]} if peek and is_last else {})}
        place = SequencePlace(sequence.name, start=sequence.heard == 0, end=end and is_last)
        sequence.asking = asyncio.get_running_loop().create_task(
            sequence.server.client.infer(
                SPEECH_TOKENIZER,
                tensors,
                timeout_s=self._tokenizer.timeout_s,
                context=context_of(self._work),
                sequence=place,
            )
        )
        answer = await asyncio.shield(sequence.asking)
        sequence.heard = until
        tokens: list[int] = answer["speech_tokens"].tolist()
        return tokens

    def _give_up(self) -> None:
        if self._sequence is not None:
            self._tokenizer.end_later(self._sequence)
            self._sequence = None


class TritonTokenizer:
    """The tokenizer of one checkpoint, on the servers of one pool."""

    def __init__(self, servers: Servers, *, timeout_s: float, new_id: Callable[[], str] | None = None) -> None:
        """Make it.

        Args:
            servers: of the pool.
            timeout_s: for one request.
            new_id: gives a part of a sequence's name that is never given twice.
        """
        self.timeout_s = timeout_s
        self._servers = servers
        self._new_id = new_id or (lambda: uuid.uuid4().hex)
        self._ending: set[asyncio.Task[None]] = set()

    def listen(self, work: Work) -> TritonUtterance:
        """Begin an utterance; nothing is sent yet."""
        return TritonUtterance(self, work)

    async def close(self) -> None:
        """Wait until what was given up has ended, and close the connections."""
        if self._ending:
            await asyncio.wait(self._ending)
        await self._servers.close()

    async def begin(self, work: Work, *, other_than: Server | None) -> _Sequence:
        """A sequence of which the server has heard nothing yet. Raises RoomUnavailableError."""
        server = await self._servers.take(other_than=other_than)
        return _Sequence(server, f"{work.session[:64]}/{work.turn}/{self._new_id()}")

    async def ended(self, sequence: _Sequence) -> None:
        """A sequence has ended on its server."""
        await self._servers.leave(sequence.server)

    def end_later(self, sequence: _Sequence) -> None:
        """End a sequence on its server without waiting for it."""
        task = asyncio.get_running_loop().create_task(self._end(sequence))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, sequence: _Sequence) -> None:
        place = SequencePlace(sequence.name, end=True)
        try:
            if sequence.asking is not None:
                await asyncio.wait([sequence.asking])
            with suppress(StepAudioError):  # it is gone, or its server is: then it holds no slot
                await sequence.server.client.infer(
                    SPEECH_TOKENIZER, {"pcm": _NOTHING}, timeout_s=_END_TIMEOUT_S, sequence=place
                )
        finally:
            await self._servers.leave(sequence.server)
