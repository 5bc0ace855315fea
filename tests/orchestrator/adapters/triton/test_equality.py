"""Over the wire and behind the ports the rooms give what they give in one process, for the same seeds."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from services.lm.chat import ChatLm, load_chat_lm
from services.local.triton import FIRST_FLOW_STEPS
from services.orchestrator.conversation.options import GenerationOptions
from services.orchestrator.conversation.record import Role
from services.orchestrator.ports.rooms import ChatMessage, PreparedVoice, Rooms, SpeechTokens, Work
from services.shared.audio.files import read_audio
from services.shared.paths import CHAT_FOLDER, TOKENIZER_FOLDER, TTS_FOLDER, VOCODER_FOLDER
from services.shared.prompt.chat import Message, SpeechContent
from services.shared.prompt.speech import VoicePrompt
from services.shared.prompt.speech.decoding import SpeechParams
from services.shared.sampling import SamplingParams
from services.shared.voices import VoiceRegistry
from services.tokenizer import SpeechTokenizer, load_speech_tokenizer
from services.tts.speech_lm import load_speech_lm
from services.vocoder import VoiceFeatures, load_vocoder
from services.vocoder.streaming import StreamSettings
from tests.conftest import NANO, ROOT
from tests.orchestrator.adapters.triton.conftest import TritonWorld

pytestmark = pytest.mark.integration

WORK = Work("equality", 1, 1, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
CLAUSE = "(高兴1)The capital of Egypt is Cairo."


@pytest.fixture(scope="module")
def question() -> NDArray[np.float32]:
    return read_audio(ROOT / "benchmarks" / "data" / "nano_questions" / "wav" / "heldout_16.wav").samples


@pytest.fixture(scope="module")
def tokenizer() -> SpeechTokenizer:
    return load_speech_tokenizer(NANO / TOKENIZER_FOLDER)


@pytest.fixture(scope="module")
def chat() -> ChatLm:
    return load_chat_lm(NANO / CHAT_FOLDER)


@pytest.fixture(scope="module")
def heard(tokenizer: SpeechTokenizer, question: NDArray[np.float32]) -> tuple[int, ...]:
    tokens, _ = tokenizer.push(question, tokenizer.initial_state(), final=True)
    return tuple(tokens.tolist())


@pytest.fixture(scope="module")
def voice(triton: TritonWorld) -> PreparedVoice:
    async def job(rooms: Rooms) -> PreparedVoice:
        return await rooms.built_in.get(rooms.built_in.default_name)

    return triton.run(job)


def test_an_utterance_gives_the_tokens_of_the_tokenizer(
    triton: TritonWorld, question: NDArray[np.float32], heard: tuple[int, ...]
) -> None:
    async def job(rooms: Rooms) -> tuple[int, ...]:
        utterance = rooms.tokenizer.listen(WORK)
        for start in range(0, len(question), 960):
            await utterance.push(question[start : start + 960])
        return await utterance.finish()

    assert triton.run(job) == heard


@pytest.mark.parametrize(
    "options",
    [GenerationOptions(seed=4), GenerationOptions(seed=5, temperature=1.8, top_p=1.0, top_k=0, max_new_tokens=40)],
    ids=["defaults", "chosen"],
)
def test_a_reply_is_the_text_of_the_chat_model(
    triton: TritonWorld, chat: ChatLm, heard: tuple[int, ...], options: GenerationOptions
) -> None:
    async def job(rooms: Rooms) -> str:
        messages = (
            ChatMessage(Role.SYSTEM, "Answer briefly."),
            ChatMessage(Role.USER, "Hello."),
            ChatMessage(Role.ASSISTANT, "Hello, how can I help?"),
            ChatMessage(Role.USER, SpeechTokens(heard)),
        )
        return "".join([piece.text async for piece in rooms.chat.reply(messages, options, WORK)])

    messages = [
        Message("system", "Answer briefly."),
        Message("user", "Hello."),
        Message("assistant", "Hello, how can I help?"),
        Message("user", SpeechContent(heard)),
    ]
    own = chat.params if options.temperature is None else SamplingParams(max_new_tokens=1, temperature=1.8, top_k=0)
    params = replace(own, max_new_tokens=options.max_new_tokens, seed=options.seed)
    assert triton.run(job) == "".join(chat.reply(messages, params))


def test_a_transcript_is_that_of_the_chat_model(triton: TritonWorld, chat: ChatLm, heard: tuple[int, ...]) -> None:
    async def job(rooms: Rooms) -> str:
        return await rooms.chat.transcribe(heard, WORK)

    assert triton.run(job) == chat.transcribe(heard)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_clause_has_the_groups_of_the_speech_model(triton: TritonWorld, voice: PreparedVoice, seed: int) -> None:
    async def job(rooms: Rooms) -> list[tuple[int, ...]]:
        return [group async for group in rooms.speech.speak(CLAUSE, voice, seed=seed, work=WORK)]

    model = load_speech_lm(NANO / TTS_FOLDER)
    prompt = VoicePrompt(voice.speaker, voice.transcript, voice.tokens)
    params = SpeechParams(model.params.temperature, model.params.top_k, model.params.top_p, seed)
    assert triton.run(job) == [tuple(group) for group in model.speak(CLAUSE, prompt, params)]


def test_a_voice_and_its_stream_are_those_of_the_vocoder(
    triton: TritonWorld, tokenizer: SpeechTokenizer, voice: PreparedVoice, heard: tuple[int, ...]
) -> None:
    registered = VoiceRegistry.load(NANO / TTS_FOLDER).get(voice.voice_id)
    clip = registered.audio()
    tokens = tokenizer.tokenize(clip.samples, clip.sample_rate_hz, trim=True).interleaved
    settings = StreamSettings(first_steps=FIRST_FLOW_STEPS)
    vocoder = load_vocoder(NANO / TTS_FOLDER / VOCODER_FOLDER, stream_settings=settings)
    features = vocoder.voice_features(clip.samples, clip.sample_rate_hz, tokens)
    assert (voice.speaker, voice.transcript) == (registered.prompt_speaker, registered.text)
    assert voice.tokens == tuple(tokens.tolist())
    assert np.array_equal(voice.mel, np.asarray(features.mel).reshape(voice.mel.shape))
    assert np.array_equal(voice.embedding, np.asarray(features.embedding).reshape(voice.embedding.shape))

    pieces = [heard[start : start + 25] for start in range(0, len(heard), 25)]

    async def job(rooms: Rooms) -> list[NDArray[np.float32]]:
        stream = rooms.vocoder.open(voice, seed=9, work=WORK)
        return [await stream.push(piece, last=piece is pieces[-1]) for piece in pieces]

    state = vocoder.initial_state(9)
    prepared = VoiceFeatures(voice.tokens, voice.mel.copy(), voice.embedding.copy())
    for piece, samples in zip(pieces, triton.run(job), strict=True):
        wanted, state = vocoder.chunk(piece, prepared, state, final=piece is pieces[-1])
        assert samples.shape == wanted.shape
        assert np.allclose(samples, wanted, atol=1e-5)


def test_a_voice_is_prepared_once_also_when_its_first_speaker_goes_away(triton: TritonWorld) -> None:
    async def job(rooms: Rooms) -> None:
        name, before = rooms.built_in.default_name, triton.encoded_clips()
        hurried, patient = (asyncio.ensure_future(rooms.built_in.get(name)) for _ in range(2))
        await asyncio.sleep(0)
        hurried.cancel()
        assert await patient is await rooms.built_in.get(name)
        assert hurried.cancelled()
        assert triton.encoded_clips() == before + 1

    triton.run(job)
