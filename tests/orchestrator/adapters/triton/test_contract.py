"""What every set of rooms promises behind its ports, held by the fakes and by the rooms on Triton alike."""

import asyncio
from contextlib import aclosing

import numpy as np
import pytest
from numpy.typing import NDArray

from services.orchestrator.conversation.options import GenerationOptions
from services.orchestrator.conversation.record import Role
from services.orchestrator.ports.rooms import ChatMessage, Haste, PreparedVoice, Rooms, SpeechTokens, TextPiece, Work
from services.shared.audio.files import Audio, read_audio
from services.shared.codec import CODEC_SIZE, GROUP_TOKENS, SEMANTIC_OFFSET, TOKEN_RATE_HZ
from services.shared.errors import EmptyAudioError, NothingToSpeakError, PromptTooLongError, VoiceNotFoundError
from tests.conftest import ROOT
from tests.fakes.rooms import group_of
from tests.orchestrator.adapters.triton.conftest import World

pytestmark = pytest.mark.contract

Samples = NDArray[np.float32]
WORK = Work()
QUESTION = (ChatMessage(Role.USER, "What is the capital of Egypt?"),)


@pytest.fixture(scope="module")
def question() -> Audio:
    return read_audio(ROOT / "benchmarks" / "data" / "nano_questions" / "wav" / "heldout_16.wav")


async def hear(rooms: Rooms, samples: Samples, piece_samples: int) -> tuple[int, ...]:
    utterance = rooms.tokenizer.listen(WORK)
    for start in range(0, len(samples), piece_samples):
        await utterance.push(samples[start : start + piece_samples])
    return await utterance.finish()


async def answer(rooms: Rooms, options: GenerationOptions) -> list[TextPiece]:
    return [piece async for piece in rooms.chat.reply(QUESTION, options, WORK)]


async def groups(rooms: Rooms, clause: str, voice: PreparedVoice, seed: int) -> list[tuple[int, ...]]:
    return [group async for group in rooms.speech.speak(clause, voice, seed=seed, work=WORK)]


async def built_in(rooms: Rooms) -> PreparedVoice:
    return await rooms.built_in.get(rooms.built_in.default_name)


def test_any_cut_of_an_utterance_gives_the_same_whole_groups(world: World, question: Audio) -> None:
    async def job(rooms: Rooms) -> None:
        coarse, fine = await asyncio.gather(hear(rooms, question.samples, 8000), hear(rooms, question.samples, 3000))
        assert coarse == fine
        assert len(coarse) % GROUP_TOKENS == 0
        assert len(coarse) / float(TOKEN_RATE_HZ) == pytest.approx(question.duration_s, abs=0.3)
        for place, token in enumerate(coarse):
            assert (token >= SEMANTIC_OFFSET) == (place % GROUP_TOKENS >= 2)
            assert 0 <= token < CODEC_SIZE

    world.run(job)


def test_tokens_at_a_pause_are_those_of_speech_that_ends_there_and_the_utterance_goes_on(
    world: World, question: Audio
) -> None:
    async def job(rooms: Rooms) -> None:
        pause = len(question.samples) // 2
        utterance = rooms.tokenizer.listen(WORK)
        assert await utterance.peek() == ()
        await utterance.push(question.samples[:pause])
        assert await utterance.peek() == await utterance.peek() == await hear(rooms, question.samples[:pause], 8000)
        await utterance.push(question.samples[pause:])
        assert await utterance.finish() == await hear(rooms, question.samples, 8000)

    world.run(job)


@pytest.mark.parametrize("samples", [0, 1, 300])
def test_an_utterance_shorter_than_a_group_has_no_tokens(world: World, samples: int) -> None:
    async def job(rooms: Rooms) -> None:
        utterance = rooms.tokenizer.listen(WORK)
        await utterance.push(np.full(samples, 0.1, np.float32))
        assert await utterance.finish() == ()

    world.run(job)


def test_an_utterance_can_be_abandoned_at_any_time_and_twice(world: World, question: Audio) -> None:
    async def job(rooms: Rooms) -> None:
        unused, begun, finished = (rooms.tokenizer.listen(WORK) for _ in range(3))
        await begun.push(question.samples[:4000])
        await finished.push(question.samples[:4000])
        await finished.finish()
        for utterance in (unused, begun, begun, finished):
            await utterance.abandon()

    world.run(job)


def test_a_reply_comes_in_pieces_and_the_last_one_says_why_it_ended(world: World) -> None:
    pieces = world.run(lambda rooms: answer(rooms, GenerationOptions(seed=3)))
    assert [piece.finish_reason for piece in pieces] == [""] * (len(pieces) - 1) + ["stop"]
    assert "".join(piece.text for piece in pieces).strip()
    assert 1 < sum(piece.tokens for piece in pieces) <= 512


def test_a_reply_ends_at_the_tokens_asked_for(world: World) -> None:
    pieces = world.run(lambda rooms: answer(rooms, GenerationOptions(max_new_tokens=3, seed=3)))
    assert sum(piece.tokens for piece in pieces) == 3
    assert pieces[-1].finish_reason == "length"


def test_a_seed_gives_the_same_reply_again(world: World) -> None:
    async def job(rooms: Rooms) -> None:
        options = GenerationOptions(temperature=1.5, seed=11)
        first, again = await asyncio.gather(answer(rooms, options), answer(rooms, options))
        assert "".join(piece.text for piece in first) == "".join(piece.text for piece in again)

    world.run(job)


def test_a_conversation_beyond_the_context_is_refused(world: World) -> None:
    async def job(rooms: Rooms) -> None:
        message = ChatMessage(Role.USER, "words " * rooms.chat.context_tokens)
        assert rooms.chat.prompt_tokens([message]) > rooms.chat.context_tokens
        with pytest.raises(PromptTooLongError):
            await anext(rooms.chat.reply([message], GenerationOptions(), WORK))

    world.run(job)


def test_a_prompt_is_longer_by_the_tokens_of_its_speech(world: World) -> None:
    async def job(rooms: Rooms) -> None:
        once = rooms.chat.prompt_tokens([ChatMessage(Role.USER, SpeechTokens(group_of(1)))])
        twice = rooms.chat.prompt_tokens([ChatMessage(Role.USER, SpeechTokens(group_of(1) * 2))])
        assert twice == once + GROUP_TOKENS

    world.run(job)


def test_a_reply_closed_early_leaves_the_next_one_alone(world: World) -> None:
    async def job(rooms: Rooms) -> None:
        options = GenerationOptions(seed=3)
        async with aclosing(rooms.chat.reply(QUESTION, options, WORK)) as pieces:
            first = await anext(pieces)
        assert (await answer(rooms, options))[0] == first

    world.run(job)


def test_speech_in_words_is_text_and_none_where_nothing_was_said(world: World, question: Audio) -> None:
    async def job(rooms: Rooms) -> None:
        assert await rooms.chat.transcribe(await hear(rooms, question.samples, 8000), WORK)
        assert await rooms.chat.transcribe((), WORK) == ""

    world.run(job)


def test_a_clause_is_spoken_in_whole_groups_and_its_seed_decides_how(world: World) -> None:
    async def job(rooms: Rooms) -> None:
        voice = await built_in(rooms)
        first, again, other = [await groups(rooms, "Hello there.", voice, seed) for seed in (1, 1, 2)]
        assert first == again != other
        assert all(len(group) == GROUP_TOKENS and max(group) < CODEC_SIZE for group in first)

    world.run(job)


def test_a_clause_without_a_word_is_refused(world: World) -> None:
    async def job(rooms: Rooms) -> None:
        with pytest.raises(NothingToSpeakError):
            await groups(rooms, "…", await built_in(rooms), 1)

    world.run(job)


def test_speech_closed_early_leaves_nothing_open(world: World) -> None:
    async def job(rooms: Rooms) -> None:
        voice = await built_in(rooms)
        async with aclosing(rooms.speech.speak("The capital of Egypt is Cairo.", voice, seed=1, work=WORK)) as speech:
            await anext(speech)

    world.run(job)


@pytest.mark.parametrize("pushes", [[60], [10, 20, 30], [25, 0, 35]])
def test_a_stream_gives_the_length_of_its_tokens_and_ends_with_the_last(world: World, pushes: list[int]) -> None:
    async def job(rooms: Rooms) -> None:
        tokens = [token for place in range(12) for token in group_of(place)]
        stream = rooms.vocoder.open(await built_in(rooms), seed=5, work=WORK)
        waves = []
        for count in pushes:
            waves.append(await stream.push(tokens[:count], last=False))
            tokens = tokens[count:]
        waves.append(await stream.push([], last=True))
        assert tokens == []
        wave = np.concatenate(waves)
        assert wave.dtype == np.float32
        assert len(wave) / rooms.vocoder.sample_rate_hz == pytest.approx(60 / float(TOKEN_RATE_HZ), abs=0.03)

    world.run(job)


def test_the_same_tokens_voice_and_seed_give_the_same_samples(world: World) -> None:
    async def job(rooms: Rooms) -> None:
        voice, waves = await built_in(rooms), []
        for seed in (5, 5, 6):
            stream = rooms.vocoder.open(voice, seed=seed, work=WORK)
            waves.append(await stream.push([*group_of(1), *group_of(2)], last=True))
        assert np.array_equal(waves[0], waves[1])
        assert not np.array_equal(waves[0], waves[2])

    world.run(job)


def test_a_push_with_slack_and_fewer_steps_gives_as_many_samples(world: World) -> None:
    async def job(rooms: Rooms) -> None:
        voice, lengths = await built_in(rooms), []
        for haste in (Haste(), Haste(slack_ms=2500, flow_steps=2, first_hop_ms=220)):
            stream = rooms.vocoder.open(voice, seed=5, work=WORK)
            waves = [await stream.push(group_of(place), last=place == 7, haste=haste) for place in range(8)]
            lengths.append(sum(map(len, waves)))
        assert lengths[0] == lengths[1]

    world.run(job)


def test_a_voice_without_a_clip_can_speak(world: World) -> None:
    async def job(rooms: Rooms) -> None:
        voice = PreparedVoice("none", "", "", (), np.zeros((0, 80), np.float32), np.ones(192, np.float32))
        stream = rooms.vocoder.open(voice, seed=5, work=WORK)
        assert len(await stream.push([*group_of(1), *group_of(2)], last=True)) > 0

    world.run(job)


def test_a_clip_becomes_a_voice(world: World, question: Audio) -> None:
    async def job(rooms: Rooms) -> None:
        voice = await rooms.voices.prepare(
            "mine",
            speaker="",
            transcript="What is it?",
            samples=question.samples,
            sample_rate_hz=question.sample_rate_hz,
        )
        assert (voice.voice_id, voice.speaker, voice.transcript) == ("mine", "", "What is it?")
        assert len(voice.tokens) >= GROUP_TOKENS
        assert len(voice.tokens) % GROUP_TOKENS == 0
        assert voice.mel.shape[1:] == (80,)
        assert voice.embedding.shape == (192,)

    world.run(job)


@pytest.mark.parametrize("samples", [np.zeros(0), np.full(1000, 0.1), np.zeros(16_000)], ids=["none", "few", "silent"])
def test_a_clip_without_speech_gives_no_voice(world: World, samples: Samples) -> None:
    async def job(rooms: Rooms) -> None:
        with pytest.raises(EmptyAudioError):
            await rooms.voices.prepare("mine", speaker="", transcript="x", samples=samples, sample_rate_hz=16_000)

    world.run(job)


def test_the_built_in_voices_have_names_and_another_name_is_refused(world: World) -> None:
    async def job(rooms: Rooms) -> None:
        assert rooms.built_in.default_name in rooms.built_in.names
        assert (await built_in(rooms)).voice_id == rooms.built_in.default_name
        with pytest.raises(VoiceNotFoundError):
            await rooms.built_in.get("nobody")

    world.run(job)


def test_a_call_that_is_cancelled_ends_at_once_and_leaves_nothing_open(world: World, question: Audio) -> None:
    async def job(rooms: Rooms) -> None:
        voice, utterance = await built_in(rooms), rooms.tokenizer.listen(WORK)
        stream = rooms.vocoder.open(voice, seed=1, work=WORK)
        for call in (
            utterance.push(question.samples),
            answer(rooms, GenerationOptions()),
            groups(rooms, "Hello there.", voice, 1),
            stream.push([*group_of(1), *group_of(2)], last=True),
        ):
            task = asyncio.ensure_future(call)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await utterance.abandon()

    world.run(job)
