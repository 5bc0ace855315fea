"""The speech tokenizer over the wire gives the tokens of the room itself, whatever the pieces and the neighbours."""

import asyncio
import uuid
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from services.shared.audio.files import read_audio
from services.shared.errors import CancelledRequestError, InvalidInputError, NonFiniteAudioError
from services.shared.paths import TOKENIZER_FOLDER
from services.shared.triton import RequestContext
from services.shared.triton.client import TritonClient
from services.shared.triton.specs import SPEECH_TOKENIZER
from services.shared.triton.wire import SequencePlace
from services.tokenizer import SpeechTokenizer, load_speech_tokenizer
from tests.conftest import NANO, ROOT
from tests.triton.conftest import Rooms

pytestmark = pytest.mark.integration

Samples = NDArray[np.float32]
POOL = SPEECH_TOKENIZER.pool


@pytest.fixture(scope="module")
def room() -> SpeechTokenizer:
    return load_speech_tokenizer(NANO / TOKENIZER_FOLDER)


@pytest.fixture(scope="module")
def question() -> Samples:
    return read_audio(ROOT / "benchmarks" / "data" / "nano_questions" / "wav" / "heldout_16.wav").samples


class Utterance:
    """One sequence."""

    def __init__(self, client: TritonClient, *, context: RequestContext | None = None, segmented: bool = False) -> None:
        self._client = client
        self._context = context or RequestContext()
        self._options = {"segmented": [True]} if segmented else {}
        self._name = uuid.uuid4().hex
        self._begun = False

    async def push(self, samples: Samples, *, end: bool = False, peek: bool = False) -> list[int]:
        place = SequencePlace(self._name, start=not self._begun, end=end)
        tensors = {"pcm": samples, **(self._options if place.start else {}), **({"peek": [True]} if peek else {})}
        self._begun = True
        answer = await self._client.infer(
            SPEECH_TOKENIZER, tensors, timeout_s=30, context=self._context, sequence=place
        )
        tokens: list[int] = answer["speech_tokens"].tolist()
        return tokens

    async def push_all(self, samples: Samples, piece_samples: int) -> list[int]:
        tokens = []
        for start in range(0, len(samples), piece_samples):
            end = start + piece_samples >= len(samples)
            tokens += await self.push(samples[start : start + piece_samples], end=end)
        return tokens


def in_process(room: SpeechTokenizer, samples: Samples, *, segmented: bool = False) -> list[int]:
    tokens, _ = room.push(samples, room.initial_state(mode="segmented" if segmented else "whole"), final=True)
    found: list[int] = tokens.tolist()
    return found


@pytest.mark.parametrize("segmented", [False, True])
def test_streamed_tokens_are_those_of_the_room(
    rooms: Rooms, room: SpeechTokenizer, question: Samples, segmented: bool
) -> None:
    streamed = rooms.ask(POOL, lambda client: Utterance(client, segmented=segmented).push_all(question, 1600))
    assert streamed == in_process(room, question, segmented=segmented)
    assert len(streamed) > 50


def test_eight_utterances_at_once_do_not_touch_each_other(
    rooms: Rooms, room: SpeechTokenizer, question: Samples
) -> None:
    recordings = [question[start : start + 20_000] for start in range(0, 8 * 1000, 1000)]

    async def speak(client: TritonClient) -> Sequence[list[int]]:
        return await asyncio.gather(
            *(Utterance(client).push_all(samples, 2000 + 100 * place) for place, samples in enumerate(recordings))
        )

    assert rooms.ask(POOL, speak) == [in_process(room, samples) for samples in recordings]


@pytest.mark.parametrize("segmented", [False, True])
def test_peek_gives_all_tokens_so_far_and_the_utterance_goes_on(
    rooms: Rooms, room: SpeechTokenizer, question: Samples, segmented: bool
) -> None:
    async def speak(client: TritonClient) -> tuple[list[int], list[int]]:
        utterance = Utterance(client, segmented=segmented)
        await utterance.push(question[:12_000])
        peeked = await utterance.push(question[12_000:16_000], peek=True)
        return peeked, await utterance.push(question[16_000:], end=True, peek=True)

    peeked, everything = rooms.ask(POOL, speak)
    assert peeked == in_process(room, question[:16_000], segmented=segmented)
    assert everything == in_process(room, question, segmented=segmented)


def test_bad_audio_is_refused_and_the_utterance_goes_on_as_if_it_had_not_come(
    rooms: Rooms, room: SpeechTokenizer, question: Samples
) -> None:
    async def speak(client: TritonClient) -> list[int]:
        utterance = Utterance(client)
        tokens = await utterance.push(question[:8000])
        with pytest.raises(NonFiniteAudioError):
            await utterance.push(np.full(320, np.nan, np.float32))
        return tokens + await utterance.push(question[8000:], end=True)

    assert rooms.ask(POOL, speak) == in_process(room, question)


def test_audio_of_no_utterance_is_refused(rooms: Rooms, question: Samples) -> None:
    async def speak(client: TritonClient) -> None:
        await client.infer(SPEECH_TOKENIZER, {"pcm": question[:320]}, timeout_s=5, sequence=SequencePlace("unheard of"))

    with pytest.raises(InvalidInputError, match="START"):
        rooms.ask(POOL, speak)


def test_audio_of_an_older_epoch_is_dropped(rooms: Rooms, question: Samples) -> None:
    async def speak(client: TritonClient) -> None:
        session = uuid.uuid4().hex
        await Utterance(client, context=RequestContext(session, 1, 2)).push(question[:320], end=True)
        await Utterance(client, context=RequestContext(session, 1, 1)).push(question[:320], end=True)

    with pytest.raises(CancelledRequestError, match="epoch 1 is over"):
        rooms.ask(POOL, speak)


def test_no_utterance_is_left_behind(rooms: Rooms, question: Samples) -> None:
    async def speak(client: TritonClient) -> None:
        begun = [Utterance(client) for _ in range(3)]
        for utterance in begun:
            await utterance.push(question[:320])
        assert rooms.metric(SPEECH_TOKENIZER, "open_sequences") == before + 3
        for utterance in begun:
            await utterance.push(question[:0], end=True)

    before = rooms.metric(SPEECH_TOKENIZER, "open_sequences")
    rooms.ask(POOL, speak)
    assert rooms.metric(SPEECH_TOKENIZER, "open_sequences") == before
