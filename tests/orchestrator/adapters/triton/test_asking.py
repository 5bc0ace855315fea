"""Asking twice where it is harmless, within one deadline, and what a lost server does to a stream and an utterance."""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import cast

import numpy as np
import pytest

from services.orchestrator.adapters.triton.asking import ask_again
from services.orchestrator.adapters.triton.servers import Server, Servers
from services.orchestrator.adapters.triton.tokenizer import MAX_UTTERANCE_S, TritonTokenizer
from services.orchestrator.adapters.triton.vocoder import TritonSpeechStream
from services.orchestrator.ports.rooms import PreparedVoice, Work
from services.shared.errors import (
    AudioTooLongError,
    InvalidInputError,
    NonFiniteAudioError,
    RoomUnavailableError,
    StepAudioError,
)
from services.shared.triton.client import TritonClient
from services.shared.triton.context import RequestContext
from services.shared.triton.tensors import Array, ModelSpec
from services.shared.triton.wire import SequencePlace

pytestmark = pytest.mark.unit

GONE = RoomUnavailableError("gone")
VOICE = PreparedVoice("none", "", "", (), np.zeros((0, 80), np.float32), np.ones(192, np.float32))
PIECE = np.full(100, 0.5, np.float32)


class ScriptedClient:
    """Answers as it is told, in turn, and well when nothing is left; keeps what it was asked."""

    def __init__(self, *answers: StepAudioError | None) -> None:
        self.address = "10.0.0.1:8001"
        self.answers = deque(answers)
        self.asked: list[tuple[Mapping[str, object], SequencePlace | None]] = []

    async def infer(
        self,
        spec: ModelSpec,
        tensors: Mapping[str, object],
        *,
        timeout_s: float,
        context: RequestContext | None = None,
        sequence: SequencePlace | None = None,
    ) -> dict[str, Array]:
        self.asked.append((tensors, sequence))
        await asyncio.sleep(0)
        if self.answers and (error := self.answers.popleft()) is not None:
            raise error
        return {output.name: np.zeros([max(0, size) for size in output.shape]) for output in spec.outputs}

    def sent_samples(self) -> list[tuple[int, bool, bool]]:
        """Of each request to the tokenizer: samples, START, END."""
        return [
            (np.size(cast(Array, tensors["pcm"])), place.start, place.end) for tensors, place in self.asked if place
        ]


class OneServer(Servers):
    """A pool of one server, which is scripted."""

    def __init__(self, client: ScriptedClient) -> None:
        super().__init__("tokenizer:8001")
        self.server = Server(cast(TritonClient, client))

    async def take(self, *, other_than: Server | None = None) -> Server:
        self.server.utterances += 1
        return self.server


def listening(client: ScriptedClient) -> tuple[TritonTokenizer, OneServer]:
    servers = OneServer(client)
    return TritonTokenizer(servers, timeout_s=5), servers


@pytest.mark.parametrize(("errors", "calls"), [([], 1), ([GONE], 2), ([GONE, GONE], 2), ([InvalidInputError("x")], 1)])
def test_only_a_room_that_is_gone_is_asked_again_and_only_once(errors: list[StepAudioError], calls: int) -> None:
    client, left = ScriptedClient(*errors), []

    async def call(left_s: float) -> None:
        left.append(left_s)
        if client.answers and (error := client.answers.popleft()) is not None:
            raise error

    async def job() -> None:
        if (len(errors) == 1 and errors[0] is GONE) or not errors:
            await ask_again(call, timeout_s=5)
        else:
            with pytest.raises(type(errors[0])):
                await ask_again(call, timeout_s=5)

    asyncio.run(job())
    assert len(left) == calls
    assert all(0 < seconds <= 5 for seconds in left)


def test_a_stream_of_sound_changes_only_when_a_push_succeeds() -> None:
    async def job() -> None:
        client = ScriptedClient(None, GONE, GONE, None)
        stream = TritonSpeechStream(cast(TritonClient, client), VOICE, seed=1, work=Work(), timeout_s=5)
        await stream.push([1], last=False)
        with pytest.raises(RoomUnavailableError):
            await stream.push([2], last=True)
        await stream.push([2], last=True)
        first, *tries = [tensors for tensors, _ in client.asked]
        assert "state_places" not in first
        assert all("state_places" in tensors for tensors in tries)
        assert len(tries) == 3
        with pytest.raises(InvalidInputError, match="last tokens"):
            await stream.push([3], last=True)

    asyncio.run(job())


@pytest.mark.parametrize("lost", [GONE, InvalidInputError("the utterance is not known here any more")])
def test_an_utterance_that_was_lost_is_heard_again_from_its_first_sample(lost: StepAudioError) -> None:
    async def job() -> None:
        client = ScriptedClient(None, lost)
        tokenizer, servers = listening(client)
        utterance = tokenizer.listen(Work("s", 1, 1))
        await utterance.push(PIECE)
        await utterance.push(PIECE)
        await utterance.finish()
        await tokenizer.close()
        again = (200, True, False)
        ends = (0, False, True)  # of the lost one, in the background, and of the replay
        sent = client.sent_samples()
        assert sent[:3] == [(100, True, False), (100, False, False), again]
        assert sorted(sent[3:]) == [ends, ends]
        names = [place.name for _, place in client.asked if place]
        assert len(set(names)) == 2
        assert all(name.startswith("s/1/") for name in names)
        assert servers.server.utterances == 0

    asyncio.run(job())


def test_an_utterance_keeps_what_could_not_be_sent() -> None:
    async def job() -> None:
        client = ScriptedClient(GONE, GONE)
        tokenizer, servers = listening(client)
        utterance = tokenizer.listen(Work())
        with pytest.raises(RoomUnavailableError):
            await utterance.push(PIECE)
        await utterance.push(PIECE)
        assert (200, True, False) in client.sent_samples()
        await utterance.abandon()
        await tokenizer.close()
        assert servers.server.utterances == 0

    asyncio.run(job())


def test_audio_that_is_refused_is_not_kept() -> None:
    async def job() -> None:
        client = ScriptedClient()
        tokenizer, _ = listening(client)
        utterance = tokenizer.listen(Work())
        await utterance.push(PIECE)
        with pytest.raises(NonFiniteAudioError):
            await utterance.push(np.full(10, np.nan, np.float32))
        with pytest.raises(AudioTooLongError):
            await utterance.push(np.zeros(MAX_UTTERANCE_S * 16_000, np.float32))
        await utterance.finish()
        await tokenizer.close()
        assert client.sent_samples() == [(100, True, False), (0, False, True)]

    asyncio.run(job())


def test_a_cancelled_request_is_let_run_and_its_sequence_ended_after_it() -> None:
    async def job() -> None:
        client = ScriptedClient()
        tokenizer, servers = listening(client)
        utterance = tokenizer.listen(Work())
        push = asyncio.ensure_future(utterance.push(PIECE))
        for _ in range(2):
            await asyncio.sleep(0)
        push.cancel()
        await asyncio.wait([push])
        await utterance.abandon()
        await tokenizer.close()
        assert client.sent_samples() == [(100, True, False), (0, False, True)]
        assert servers.server.utterances == 0

    asyncio.run(job())
