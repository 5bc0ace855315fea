"""Whoever goes away leaves nothing behind in the rooms: no reply, no sequence, no slot for one."""

import asyncio
import random
from contextlib import aclosing

import numpy as np
import pytest

from services.orchestrator.conversation.options import GenerationOptions
from services.orchestrator.conversation.record import Role
from services.orchestrator.ports.rooms import ChatMessage, PreparedVoice, Rooms, Work
from services.shared.errors import CancelledRequestError
from services.shared.triton.specs import SPEECH_TOKENIZER, STEP1_CHAT
from tests.fakes.rooms import group_of
from tests.orchestrator.adapters.triton.conftest import TritonWorld

pytestmark = pytest.mark.integration

QUESTION = (ChatMessage(Role.USER, "What is the capital of Egypt?"),)
ENDLESS = GenerationOptions(max_new_tokens=2000, temperature=50.0, top_k=0, seed=1)
NOISE = np.random.default_rng(1).normal(0, 0.1, 16_000).astype(np.float32)
SLOTS = SPEECH_TOKENIZER.max_batch


async def listen_briefly(rooms: Rooms, delay_s: float) -> None:
    """An utterance whose speaker hangs up at any moment."""
    utterance = rooms.tokenizer.listen(Work())
    try:
        async with asyncio.timeout(delay_s):
            for start in range(0, len(NOISE), 1600):
                await utterance.push(NOISE[start : start + 1600])
            await utterance.finish()
    except TimeoutError:
        pass
    finally:
        await utterance.abandon()


async def fill_every_slot(rooms: Rooms) -> None:
    """As many utterances at once as the tokenizer has slots; one that leaked would make the last of them wait."""
    utterances = [rooms.tokenizer.listen(Work()) for _ in range(SLOTS)]
    async with asyncio.timeout(30):
        await asyncio.gather(*(utterance.push(NOISE[:1600]) for utterance in utterances))
    await asyncio.gather(*(utterance.finish() for utterance in utterances))


def test_fifty_speakers_who_hang_up_leave_every_slot_free(triton: TritonWorld) -> None:
    async def hang_up(rooms: Rooms) -> None:
        draw = random.Random(7)
        for _ in range(5):
            await asyncio.gather(*(listen_briefly(rooms, draw.uniform(0, 0.3)) for _ in range(10)))

    triton.run(hang_up)
    triton.run(fill_every_slot)


def test_an_abandoned_utterance_gives_its_slot_back(triton: TritonWorld) -> None:
    async def abandon(rooms: Rooms) -> None:
        for _ in range(2):
            utterances = [rooms.tokenizer.listen(Work()) for _ in range(SLOTS)]
            await asyncio.gather(*(utterance.push(NOISE[:1600]) for utterance in utterances))
            assert triton.servers.metric(SPEECH_TOKENIZER, "open_sequences") == SLOTS
            for utterance in utterances:
                await utterance.abandon()

    triton.run(abandon)
    triton.run(fill_every_slot)


def test_a_reply_that_is_closed_or_cancelled_stops_in_the_engine(triton: TritonWorld) -> None:
    async def hang_up(rooms: Rooms) -> None:
        async with aclosing(rooms.chat.reply(QUESTION, ENDLESS, Work())) as pieces:
            await anext(pieces)
            assert triton.servers.metric(STEP1_CHAT, "open_requests") == 1
        await triton.until_idle()
        reading = asyncio.ensure_future(_read(rooms))
        while not triton.servers.metric(STEP1_CHAT, "open_requests"):
            await asyncio.sleep(0.005)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await triton.until_idle()

    triton.run(hang_up)


def test_a_push_that_is_cancelled_can_be_made_again(triton: TritonWorld) -> None:
    async def job(rooms: Rooms) -> None:
        voice = PreparedVoice("none", "", "", (), np.zeros((0, 80), np.float32), np.ones(192, np.float32))
        tokens = [token for place in range(10) for token in group_of(place)]
        calm, hurried = (rooms.vocoder.open(voice, seed=5, work=Work()) for _ in range(2))
        for delay_s in (0.0, 0.005, 0.02):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await hurried.push(tokens, last=True)
        assert np.array_equal(await hurried.push(tokens, last=True), await calm.push(tokens, last=True))

    triton.run(job)


def test_a_cancelled_push_of_an_utterance_is_heard_all_the_same(triton: TritonWorld) -> None:
    async def job(rooms: Rooms) -> None:
        calm, hurried = (rooms.tokenizer.listen(Work()) for _ in range(2))
        for start in range(0, len(NOISE), 4000):
            piece = NOISE[start : start + 4000]
            await calm.push(piece)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await hurried.push(piece)
        assert await hurried.finish() == await calm.finish() != ()

    triton.run(job)


def test_work_of_an_older_epoch_is_dropped_and_a_transcription_of_an_earlier_turn_is_not(triton: TritonWorld) -> None:
    async def job(rooms: Rooms) -> None:
        session = f"epochs-{random.getrandbits(64)}"
        tokens = [token for place in range(5) for token in group_of(place)]
        async with aclosing(rooms.chat.reply(QUESTION, ENDLESS, Work(session, 2, 2))) as pieces:
            await anext(pieces)
            await rooms.chat.transcribe(tokens, Work(session, 1, 2))
            await anext(pieces)
            with pytest.raises(CancelledRequestError):
                await rooms.chat.transcribe(tokens, Work(session, 1, 1))

    triton.run(job)


async def _read(rooms: Rooms) -> None:
    async for _ in rooms.chat.reply(QUESTION, ENDLESS, Work()):
        pass
