"""Both language models over the wire: the ids of the batcher itself, one by one, and nothing left of who goes away."""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import aclosing

import pytest

from services.shared.decoding import ContinuousBatcher
from services.shared.errors import (
    CancelledRequestError,
    DeadlineExceededError,
    InvalidInputError,
    InvalidOptionError,
    PromptTooLongError,
    StepAudioError,
    UnknownTokenError,
)
from services.shared.nn.step1 import load_step1
from services.shared.paths import CHAT_FOLDER, TTS_FOLDER
from services.shared.sampling import IdRange, SamplingParams
from services.shared.triton import ModelSpec, RequestContext
from services.shared.triton.client import TritonClient
from services.shared.triton.specs import STEP1_CHAT, STEP1_TTS
from tests.conftest import NANO
from tests.triton.conftest import Rooms

pytestmark = pytest.mark.integration

PROMPT = [1, 4, 300, 25, 700, 5, 4, 11, 5]
ENDLESS = {"input_ids": PROMPT, "max_new_tokens": [2000]}
BOTH = pytest.mark.parametrize(
    ("spec", "folder"), [(STEP1_CHAT, CHAT_FOLDER), (STEP1_TTS, TTS_FOLDER)], ids=["chat", "tts"]
)


@pytest.fixture(scope="module")
def batcher() -> Callable[[str], ContinuousBatcher]:
    loaded: dict[str, ContinuousBatcher] = {}

    def load(folder: str) -> ContinuousBatcher:
        if folder not in loaded:
            loaded[folder] = ContinuousBatcher(load_step1(NANO / folder), max_batch=8)
        return loaded[folder]

    return load


async def reply(client: TritonClient, spec: ModelSpec, **tensors: object) -> tuple[list[list[int]], str]:
    """The ids of each response, and why the reply ended."""
    pieces, reason = [], ""
    request = {"input_ids": PROMPT, **tensors}
    async for answer in client.stream(spec, request, timeout_s=30):
        pieces.append(answer["output_ids"].tolist())
        reason = answer["finish_reason"].item()
    return pieces, reason


def joined(pieces: Sequence[Sequence[int]]) -> list[int]:
    return [token for piece in pieces for token in piece]


@BOTH
def test_ids_with_a_seed_are_those_of_the_batcher(
    rooms: Rooms, batcher: Callable[[str], ContinuousBatcher], spec: ModelSpec, folder: str
) -> None:
    params = SamplingParams(
        max_new_tokens=40, temperature=0.9, top_p=0.95, top_k=40, seed=7, repetition_aware=True, stop_ids=(5,)
    )
    wanted = list(batcher(folder).generate(PROMPT, params))
    pieces, reason = rooms.ask(
        spec.pool,
        lambda client: reply(
            client,
            spec,
            max_new_tokens=[40],
            temperature=[0.9],
            top_p=[0.95],
            top_k=[40],
            seed=[7],
            repetition_aware=[True],
            stop_ids=[5],
        ),
    )
    assert joined(pieces) == wanted
    assert reason == ("length" if len(wanted) == 40 else "stop")


def test_replies_at_once_are_those_of_each_alone(rooms: Rooms, batcher: Callable[[str], ContinuousBatcher]) -> None:
    async def all_at_once(client: TritonClient) -> list[list[int]]:
        replies = await asyncio.gather(
            *(reply(client, STEP1_CHAT, max_new_tokens=[20 + seed], seed=[seed]) for seed in range(8))
        )
        return [joined(pieces) for pieces, _ in replies]

    wanted = [
        list(batcher(CHAT_FOLDER).generate(PROMPT, SamplingParams(max_new_tokens=20 + seed, seed=seed)))
        for seed in range(8)
    ]
    assert rooms.ask("lm", all_at_once) == wanted


def test_each_id_comes_as_it_is_made_unless_more_are_to_be_gathered(rooms: Rooms) -> None:
    async def ask(client: TritonClient) -> tuple[list[list[int]], list[list[int]]]:
        single, _ = await reply(client, STEP1_CHAT, max_new_tokens=[12], seed=[1])
        gathered, _ = await reply(client, STEP1_CHAT, max_new_tokens=[12], seed=[1], ids_per_response=[5])
        return single, gathered

    single, gathered = rooms.ask("lm", ask)
    assert [len(piece) for piece in single] == [1] * 12
    assert [len(piece) for piece in gathered] == [5, 5, 2]
    assert joined(single) == joined(gathered)


def test_allowed_ids_hold_the_reply_to_their_range(rooms: Rooms, batcher: Callable[[str], ContinuousBatcher]) -> None:
    params = SamplingParams(max_new_tokens=10, seed=3, allowed_ids=IdRange(100, 120))
    request = {"max_new_tokens": [10], "seed": [3], "allowed_ids": [100, 120]}
    pieces, _ = rooms.ask("tts", lambda client: reply(client, STEP1_TTS, **request))
    assert joined(pieces) == list(batcher(TTS_FOLDER).generate(PROMPT, params))
    assert all(100 <= token < 120 for token in joined(pieces))


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"input_ids": []}, InvalidInputError, "at least one token"),
        ({"input_ids": [10**7]}, UnknownTokenError, "outside the vocabulary"),
        ({"input_ids": [1] * 9000}, PromptTooLongError, "exceed the model's max_seq_len"),
        ({"max_new_tokens": [0]}, InvalidOptionError, "max_new_tokens is 0"),
        ({"temperature": [float("nan")]}, InvalidOptionError, "temperature is nan"),
        ({"top_p": [0.0]}, InvalidOptionError, "top_p is 0"),
        ({"allowed_ids": [9, 3]}, InvalidOptionError, "range of allowed ids"),
        ({"stop_ids": [10**8]}, InvalidOptionError, "stop_ids"),
    ],
)
def test_a_wrong_request_gets_the_rooms_own_error_and_no_slot(
    rooms: Rooms, wrong: dict[str, object], error: type[StepAudioError], said: str
) -> None:
    with pytest.raises(error, match=said):
        rooms.ask("lm", lambda client: reply(client, STEP1_CHAT, **{"max_new_tokens": [5], **wrong}))
    await_idle(rooms, STEP1_CHAT)


@BOTH
def test_closing_the_stream_stops_the_engine(rooms: Rooms, spec: ModelSpec, folder: str) -> None:
    async def hang_up(client: TritonClient) -> None:
        async with aclosing(client.stream(spec, ENDLESS, timeout_s=30)) as stream:
            await anext(stream)

    cancelled = rooms.metric(spec, 'requests_total{outcome="cancelled"}')
    rooms.ask(spec.pool, hang_up)
    await_idle(rooms, spec)
    assert rooms.metric(spec, 'requests_total{outcome="cancelled"}') == cancelled + 1
    made = rooms.metric(spec, "tokens_total")
    time.sleep(0.1)
    assert rooms.metric(spec, "tokens_total") == made


def test_a_deadline_stops_the_engine(rooms: Rooms) -> None:
    async def run_out_of_time(client: TritonClient) -> None:
        async for _ in client.stream(STEP1_CHAT, ENDLESS, timeout_s=0.3):
            pass

    with pytest.raises(DeadlineExceededError):
        rooms.ask("lm", run_out_of_time)
    await_idle(rooms, STEP1_CHAT)


def test_twenty_callers_that_hang_up_leave_no_request_behind(rooms: Rooms) -> None:
    async def hang_up(client: TritonClient, responses: int) -> None:
        async with aclosing(client.stream(STEP1_CHAT, ENDLESS, timeout_s=30)) as stream:
            for _ in range(responses):
                await anext(stream)

    async def all_of_them(client: TritonClient) -> None:
        await asyncio.gather(*(hang_up(client, 1 + number % 4) for number in range(20)))

    rooms.ask("lm", all_of_them)
    await_idle(rooms, STEP1_CHAT)


def test_a_newer_epoch_ends_the_reply_of_the_older_one(rooms: Rooms) -> None:
    async def interrupt(client: TritonClient) -> None:
        session = uuid.uuid4().hex
        async with aclosing(
            client.stream(STEP1_CHAT, ENDLESS, timeout_s=30, context=RequestContext(session, 1, 1))
        ) as older:
            await anext(older)
            newer = client.stream(
                STEP1_CHAT, {**ENDLESS, "max_new_tokens": [2]}, timeout_s=30, context=RequestContext(session, 1, 2)
            )
            assert [answer["output_ids"].size async for answer in newer] == [1, 1]
            async for _ in older:
                pass

    with pytest.raises(CancelledRequestError, match="its session has moved on"):
        rooms.ask("lm", interrupt)


def await_idle(rooms: Rooms, spec: ModelSpec) -> None:
    """Wait until the model has no open request; the test's own timeout ends a wait without end."""
    while rooms.metric(spec, "open_requests") > 0:
        time.sleep(0.02)
