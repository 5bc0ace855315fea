"""With the nano checkpoint and fixed seeds, a streamed reply is the offline pipeline's answer.

The rooms run inside this process behind the orchestrator's ports, so that what is compared is the pipeline alone.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import pytest

from benchmarks.streaming_vocoder import log_mel_distance
from services.lm.chat import ChatLm
from services.offline.pipeline import Answer, ChatOptions, OfflinePipeline
from services.offline.rooms import PreparedVoice as OfflineVoice
from services.offline.settings import NANO_CHECKPOINTS
from services.offline.speaking import SpeechOptions
from services.orchestrator.conversation.effects import StartReply
from services.orchestrator.conversation.events import ReplyAudioMade, ReplyId, ReplyTakenUp, ReplyTextMade, ToolCallMade
from services.orchestrator.conversation.options import GenerationOptions, Options, Tool
from services.orchestrator.conversation.record import Message, Role
from services.orchestrator.pipeline.limits import PipelineLimits, ReplyLimits
from services.orchestrator.pipeline.made import Made
from services.orchestrator.pipeline.meter import Meter
from services.orchestrator.pipeline.observer import Unobserved
from services.orchestrator.pipeline.replies import Reply, ReplyNeeds
from services.orchestrator.pipeline.utterances import SpokenUtterance
from services.orchestrator.pipeline.window import ContextWindow
from services.orchestrator.ports.rooms import (
    NO_HASTE,
    ChatMessage,
    Haste,
    PreparedVoice,
    Rooms,
    Samples,
    TextPiece,
    Work,
)
from services.shared.codec import GROUP_MS, GROUP_TOKENS
from services.shared.prompt.chat import Message as PromptMessage
from services.tts.speech_lm import SpeechLm
from services.vocoder import Vocoder
from services.vocoder.streaming import StreamState
from tests.fakes.clock import run
from tests.fakes.rooms import FakeRooms, made_up_voice
from tests.orchestrator.pipeline.house import loop_time

pytestmark = pytest.mark.integration

QUESTIONS = ("What sound does a sheep make?", "What is two plus three?")
SEED = 3


@dataclass
class LocalChat:
    """The chat model in this process."""

    model: ChatLm
    context_tokens: int = 4096

    def prompt_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> int:
        return 1

    async def reply(
        self,
        messages: Sequence[ChatMessage],
        options: GenerationOptions,
        work: Work,
        *,
        begun: str = "",
        tools: Sequence[Tool] = (),
    ) -> AsyncGenerator[TextPiece, None]:
        read = [PromptMessage(message.role.value, str(message.content)) for message in messages]
        for text in self.model.reply(read, replace(self.model.params, seed=options.seed or 0)):
            yield TextPiece(text, 1)
            await asyncio.sleep(0)

    async def transcribe(self, tokens: Sequence[int], work: Work) -> str:
        raise NotImplementedError


@dataclass
class LocalSpeech:
    """The speech model in this process."""

    model: SpeechLm
    voice: OfflineVoice
    seeds: list[int] = field(default_factory=list)
    tokens: list[list[int]] = field(default_factory=list)

    async def speak(
        self, clause: str, voice: PreparedVoice, *, seed: int, work: Work
    ) -> AsyncGenerator[tuple[int, ...], None]:
        self.seeds.append(seed)
        self.tokens.append([])
        for group in self.model.speak(clause, self.voice.prompt, replace(self.model.params, seed=seed)):
            self.tokens[-1].extend(group)
            yield tuple(group)
            await asyncio.sleep(0)


@dataclass
class LocalVocoder:
    """The vocoder in this process."""

    model: Vocoder
    voice: OfflineVoice
    sample_rate_hz: int = 22_050

    def open(self, voice: PreparedVoice, *, seed: int, work: Work) -> "LocalSpeechStream":
        return LocalSpeechStream(self.model, self.voice, self.model.initial_state(seed))


@dataclass
class LocalSpeechStream:
    """One stream of it."""

    model: Vocoder
    voice: OfflineVoice
    state: StreamState

    async def push(self, tokens: Sequence[int], *, last: bool, haste: Haste = NO_HASTE) -> Samples:
        pushed = np.asarray(tokens, np.int64)
        samples, self.state = self.model.chunk(pushed, self.voice.features, self.state, final=last)
        return samples


@cache
def offline() -> OfflinePipeline:
    return OfflinePipeline(NANO_CHECKPOINTS)


@cache
def answers() -> tuple[tuple[str, Answer], ...]:
    """Offline answers that needed one attempt for each clause."""
    found = []
    for question in QUESTIONS:
        answer = offline().ask(question, ChatOptions(seed=SEED), SpeechOptions(seed=SEED))
        if all(clause.attempts == 1 for clause in answer.speech.clauses):
            found.append((question, answer))
    assert found
    return tuple(found)


def streamed(question: str) -> tuple[str, Samples, LocalSpeech]:
    """The same through the pipeline: text, samples, and what the speech model was asked."""

    async def main() -> tuple[str, Samples, LocalSpeech]:
        rooms = offline().rooms
        voice = rooms.prepare(rooms.voices.get(rooms.voices.default_name), music=False)
        speech = LocalSpeech(rooms.speech, voice)
        fakes = FakeRooms().rooms
        bundle = Rooms(
            fakes.tokenizer,
            LocalChat(rooms.chat),
            speech,
            LocalVocoder(rooms.vocoder(music=False), voice),
            fakes.voices,
            fakes.built_in,
        )
        told: list[ReplyTextMade | ReplyAudioMade | ReplyTakenUp | ToolCallMade] = []

        async def find_voice(voice_id: str) -> PreparedVoice:
            return made_up_voice()

        def utterance(number: int) -> SpokenUtterance:
            raise AssertionError("nobody spoke")

        window = ContextWindow(bundle.chat, PipelineLimits(), default_prompt="", spawn=asyncio.ensure_future)
        needs = ReplyNeeds(bundle, find_voice, utterance, lambda: 0.0, told.append, loop_time, PipelineLimits(), window)
        options = Options(generation=GenerationOptions(seed=SEED))
        effect = StartReply(ReplyId(1, 1), (Message(Role.USER, question),), "", options)
        await Reply(effect, needs, work=Work(), meter=Meter(loop_time, Unobserved()), seed=SEED, made=Made()).run()
        text = "".join(event.text for event in told if isinstance(event, ReplyTextMade))
        pieces = [np.asarray(event.samples) for event in told if isinstance(event, ReplyAudioMade)]
        return text, np.concatenate(pieces), speech

    return run(main())


def voiced(tokens: Sequence[Sequence[int]], group: int) -> Samples:
    """The same speech from the streaming vocoder alone, so many tokens at a time: how near to the whole it comes."""
    rooms = offline().rooms
    voice = rooms.prepare(rooms.voices.get(rooms.voices.default_name), music=False)
    vocoder, pieces = rooms.vocoder(music=False), []
    for clause in tokens:
        state = vocoder.initial_state(SEED)
        for start in range(0, len(clause), group):
            pushed = np.asarray(clause[start : start + group], np.int64)
            samples, state = vocoder.chunk(pushed, voice.features, state, final=start + group >= len(clause))
            pieces.append(samples)
    return np.concatenate(pieces)


def test_text_is_identical_and_audio_is_the_same_to_the_streaming_vocoders_tolerance() -> None:
    for question, answer in answers():
        text, samples, speech = streamed(question)
        assert text == answer.text
        assert speech.seeds == [SEED] * len(answer.speech.clauses)
        assert [len(tokens) for tokens in speech.tokens] == [clause.tokens for clause in answer.speech.clauses]
        assert len(samples) == len(answer.speech.samples)
        distance = log_mel_distance(samples, answer.speech.samples)
        tolerance = log_mel_distance(voiced(speech.tokens, 5), answer.speech.samples)
        print(
            f"{question!r} {text!r}: log-mel {distance:.3f} from offline, the streaming vocoder alone {tolerance:.3f}"
        )
        assert distance <= 1.05 * tolerance


def test_the_first_chunk_of_speech_is_just_what_the_vocoder_needs_for_its_first_samples() -> None:
    """A group less and it would wait for as much again; a group more and the listener waits for nothing."""
    rooms = offline().rooms
    voice = rooms.prepare(rooms.voices.get(rooms.voices.default_name), music=False)
    vocoder = rooms.vocoder(music=False)
    groups = ReplyLimits().first_chunk_ms // GROUP_MS
    for count, gives in ((groups, True), (groups - 1, False)):
        tokens = np.arange(count * GROUP_TOKENS)
        samples, _ = vocoder.chunk(tokens, voice.features, vocoder.initial_state(SEED), final=False)
        assert bool(len(samples)) is gives
