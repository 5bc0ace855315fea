"""A reply sounds as the offline pipeline makes it, however it is cut and paced on the way."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.orchestrator.conversation.effects import ResumeReply, StartReply
from services.orchestrator.conversation.events import ReplyAudioMade, ReplyId, ReplyTakenUp, ReplyTextMade, ToolCallMade
from services.orchestrator.conversation.options import Options, VoiceOptions
from services.orchestrator.conversation.record import Message, ReplyWork, Role
from services.orchestrator.pipeline.limits import PipelineLimits, ReplyLimits
from services.orchestrator.pipeline.made import Made
from services.orchestrator.pipeline.meter import Meter
from services.orchestrator.pipeline.observer import Unobserved
from services.orchestrator.pipeline.replies import Reply, ReplyNeeds
from services.orchestrator.pipeline.utterances import SpokenUtterance
from services.orchestrator.pipeline.window import ContextWindow
from services.orchestrator.ports.rooms import PreparedVoice, Work
from services.shared.audio.effects import change_speed, change_volume
from services.shared.errors import EmptyReplyError, GenerationError, MisalignedSpeechError
from services.shared.prompt.speech.clauses import split_clauses
from services.shared.prompt.speech.tags import leading_tags
from tests.fakes.clock import run
from tests.fakes.rooms import INSTANT, PACED, FakeRooms, Fault, Paces, group_of, made_up_voice, wave_of
from tests.orchestrator.pipeline.house import loop_time

pytestmark = pytest.mark.unit

SEED = 7
LIMITS = ReplyLimits()
VOICE = VoiceOptions()
RATE_HZ = 22_050
TEXT = (
    "（高兴） It rains in Lisbon today, and the wind is strong. Take an umbrella, a coat and good shoes with you! "
    "The sun comes back tomorrow; so they say. 你好，今天天气很好。我们去公园散步吧。 "
)


class Listener:
    """Hears a reply at real-time rate, as the core reckons."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.audio: list[ReplyAudioMade] = []
        self.leads_s: list[float] = []
        self.taken_up: ReplyTakenUp | None = None
        self._begun_s = 0.0

    def tell(self, event: ReplyTextMade | ReplyAudioMade | ReplyTakenUp | ToolCallMade) -> None:
        if isinstance(event, ReplyTakenUp):
            assert not self.text
            assert not self.audio
            self.taken_up = event
            return
        assert not isinstance(event, ToolCallMade)
        if isinstance(event, ReplyTextMade):
            self.text.append(event.text)
            return
        if not self.audio:
            self._begun_s = loop_time()
        self.audio.append(event)
        self.leads_s.append(self.lead_s())

    def lead_s(self) -> float:
        if not self.audio:
            return 0.0
        return max(self.audio[-1].end_sample / RATE_HZ - (loop_time() - self._begun_s), 0.0)

    @property
    def samples(self) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
        return np.concatenate([np.zeros(0, np.float32), *(np.asarray(event.samples) for event in self.audio)])


def reply_of(
    rooms: FakeRooms,
    listener: Listener,
    *,
    words: str = "",
    limits: ReplyLimits = LIMITS,
    voice: VoiceOptions,
    seed: int = SEED,
) -> tuple[Reply, Meter]:
    async def find_voice(voice_id: str) -> PreparedVoice:
        return made_up_voice()

    def utterance(number: int) -> SpokenUtterance:
        raise AssertionError("nobody spoke")

    needs = ReplyNeeds(
        rooms.rooms,
        find_voice,
        utterance,
        listener.lead_s,
        listener.tell,
        loop_time,
        PipelineLimits(reply=limits),
        window(rooms),
    )
    context = () if words else (Message(Role.USER, "How is the weather?"),)
    effect = StartReply(ReplyId(1, 1), context, words, Options(voice=voice))
    meter = Meter(loop_time, Unobserved())
    return Reply(effect, needs, work=Work("s", 1, 1), meter=meter, seed=seed, made=Made()), meter


def window(rooms: FakeRooms) -> ContextWindow:
    return ContextWindow(rooms.chat, PipelineLimits(), default_prompt="", spawn=asyncio.ensure_future)


def reply_again(
    rooms: FakeRooms, listener: Listener, made: Made, *, sample: int, text: str, voice: VoiceOptions
) -> Reply:
    async def find_voice(voice_id: str) -> PreparedVoice:
        return made_up_voice()

    def utterance(number: int) -> SpokenUtterance:
        raise AssertionError("nobody spoke")

    needs = ReplyNeeds(
        rooms.rooms,
        find_voice,
        utterance,
        listener.lead_s,
        listener.tell,
        loop_time,
        PipelineLimits(),
        window(rooms),
    )
    context = (Message(Role.USER, "How is the weather?"),)
    stopped, options = ReplyId(1, 1), Options(voice=voice)
    effect = ResumeReply(ReplyId(1, 2), stopped, sample, text, made.is_written, context, "", options, SEED)
    return Reply(effect, needs, work=Work("s", 1, 2), meter=Meter(loop_time, Unobserved()), seed=SEED, made=made)


def spoken(
    text: str,
    *,
    paces: Paces = INSTANT,
    limits: ReplyLimits = LIMITS,
    voice: VoiceOptions = VOICE,
    faults: Sequence[Fault | None] = (),
    words: str = "",
    seed: int = SEED,
) -> tuple[Listener, ReplyWork, FakeRooms]:
    async def main() -> tuple[Listener, ReplyWork, FakeRooms]:
        rooms, listener = FakeRooms(paces, sleep=asyncio.sleep), Listener()
        rooms.chat.answers.append(text)
        rooms.speech.faults.extend(faults)
        reply, meter = reply_of(rooms, listener, words=words, limits=limits, voice=voice, seed=seed)
        await reply.run()
        assert rooms.live == {}
        return listener, meter.work(), rooms

    return run(main())


def offline(text: str, *, seeds: Sequence[int] = ()) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """What the offline pipeline would make of a text with the same fakes: one clause after another, whole."""
    pieces = []
    for place, clause in enumerate(split_clauses(text.strip())):
        tokens = run(_tokens(clause, seeds[place] if seeds else SEED))
        pieces.append(wave_of(tokens, start=0, seed=SEED))
    return np.concatenate(pieces)


async def _tokens(clause: str, seed: int) -> list[int]:
    stream: AsyncGenerator[tuple[int, ...], None] = FakeRooms().speech.speak(
        clause, made_up_voice(), seed=seed, work=Work()
    )
    return [token async for group in stream for token in group]


@pytest.mark.parametrize("paces", [INSTANT, PACED])
@pytest.mark.parametrize("first_chunk_ms", [120, 600])
def test_streamed_text_and_audio_equal_the_offline_ones(paces: Paces, first_chunk_ms: int) -> None:
    listener, _, _ = spoken(TEXT, paces=paces, limits=ReplyLimits(first_chunk_ms=first_chunk_ms))
    whole = TEXT.strip()
    assert "".join(listener.text) == whole[len(leading_tags(whole)) :].lstrip()
    assert np.array_equal(listener.samples, offline(TEXT))


SENTENCES = st.lists(
    st.sampled_from(
        ["It rains.", "(sad) Oh no!", "你好，世界。", "3.5 km,", "wait…", "word", "\n", " ", "（RAP）", "哈哈！"]
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60)
@given(SENTENCES)
def test_any_text_streams_as_offline(parts: list[str]) -> None:
    text = " ".join(parts)
    try:
        expected = offline(text)
    except Exception:  # noqa: BLE001 - nothing to speak: the streamed reply fails too
        with pytest.raises(EmptyReplyError):
            spoken(text)
        return
    listener, _, _ = spoken(text)
    assert np.array_equal(listener.samples, expected)
    counts = [event.spoken_characters for event in listener.audio]
    assert counts == sorted(counts)
    assert counts[-1] <= len("".join(listener.text))


def test_audio_is_never_sent_further_ahead_than_allowed() -> None:
    listener, _, _ = spoken(TEXT * 3, limits=ReplyLimits(max_playout_lead_ms=1000))
    assert max(listener.leads_s) <= 1.0 + 1e-9
    assert max(listener.leads_s) > 0.7


def test_stages_overlap_so_that_audio_comes_long_before_the_text_ends() -> None:
    listener, _, _ = spoken(TEXT * 4, paces=PACED)
    rooms_in_a_row_s = 0.015 * len((TEXT * 4).split()) + 0.02 * len(TEXT * 4) / 2
    assert listener.audio[0].at_s < rooms_in_a_row_s / 4
    marks = listener.audio[0].marks
    assert marks is not None
    assert marks.asked_s <= marks.tokens_s <= marks.clause_s <= marks.speech_tokens_s <= marks.audio_s
    assert all(event.marks is None for event in listener.audio[1:])


def test_speech_that_went_wrong_unheard_is_made_again_with_the_next_seed() -> None:
    bad = Fault(MisalignedSpeechError("garble"), after=3)
    listener, work, rooms = spoken("One sentence here, my friend. " * 3, faults=[bad, bad])
    assert rooms.speech.spoken[0] == rooms.speech.spoken[1] == rooms.speech.spoken[2]
    clauses = split_clauses(("One sentence here, my friend. " * 3).strip())
    assert np.array_equal(
        listener.samples,
        offline("One sentence here, my friend. " * 3, seeds=[SEED + 2] + [SEED] * (len(clauses) - 1)),
    )
    assert next(room.requests for room in work.rooms if room.room == "tts") == len(clauses) + 2


def test_after_the_largest_seed_comes_the_first() -> None:
    bad = Fault(MisalignedSpeechError("garble"), after=3)
    listener, _, _ = spoken("Hello, my friend.", faults=[bad], seed=2**63 - 1)
    tokens = run(_tokens("Hello, my friend.", 0))
    assert np.array_equal(listener.samples, wave_of(tokens, start=0, seed=2**63 - 1))


def test_a_later_clause_is_held_until_it_is_complete_while_enough_lies_ahead() -> None:
    text = "The first sentence is quite long indeed, so that it plays for a while. The second one slips."
    bad = Fault(MisalignedSpeechError("garble"), after=12)
    listener, _, _ = spoken(text, paces=PACED, faults=[None, bad])
    assert np.array_equal(listener.samples, offline(text, seeds=[SEED, SEED + 1]))


def test_a_loop_after_all_words_were_said_ends_the_clause_and_not_the_reply() -> None:
    first = "This is the first sentence."
    groups = 60  # 7.2 s where about 2 s were to be expected

    async def main() -> None:
        rooms, listener = FakeRooms(PACED, sleep=asyncio.sleep), Listener()
        rooms.chat.answers.append(f"{first} And the second is fine.")
        plain = rooms.speech.speak

        async def speak(
            clause: str, voice: PreparedVoice, *, seed: int, work: Work
        ) -> AsyncGenerator[tuple[int, ...], None]:
            if "first" not in clause:
                async for group in plain(clause, voice, seed=seed, work=work):
                    yield group
                return
            for place in range(groups):
                await asyncio.sleep(0.1)  # about as fast as it is heard: nothing can be held back
                yield group_of(place)
            raise GenerationError("the speech did not end")

        rooms.speech.speak = speak  # type: ignore[method-assign]  # one model that loops
        reply, _ = reply_of(rooms, listener, voice=VoiceOptions())
        await reply.run()
        assert "".join(listener.text) == f"{first} And the second is fine."
        assert listener.audio[-1].spoken_characters == len("".join(listener.text))

    run(main())


def test_a_clause_that_fails_with_every_seed_fails_the_reply() -> None:
    with pytest.raises(GenerationError, match="5 seeds"):
        spoken("One sentence.", faults=[Fault(GenerationError("loop"), after=0)] * 5)


def test_words_are_spoken_without_the_chat_model() -> None:
    listener, _, rooms = spoken("", words="（温柔）Good morning. How are you?")
    assert rooms.chat.begun == 0
    assert "".join(listener.text) == "Good morning. How are you?"
    assert np.array_equal(listener.samples, offline("（温柔）Good morning. How are you?"))


def test_speed_and_volume_change_the_whole_reply_as_offline() -> None:
    listener, _, _ = spoken(TEXT, voice=VoiceOptions(speed=1.25, volume=1.5))
    expected = change_volume(change_speed(offline(TEXT), RATE_HZ, 1.25), 1.5)
    assert listener.samples.shape == expected.shape
    assert np.allclose(listener.samples, expected, atol=1e-6)
    assert listener.audio[-1].spoken_characters == len("".join(listener.text))


@pytest.mark.parametrize("moment_s", [0.0, 0.02, 0.05, 0.1, 0.3, 0.7, 1.5, 3.0])
def test_cancelling_at_any_moment_lets_go_of_every_room(moment_s: float) -> None:
    async def main() -> None:
        rooms, listener = FakeRooms(PACED, sleep=asyncio.sleep), Listener()
        rooms.chat.answers.append(TEXT * 5)
        reply, _ = reply_of(rooms, listener, voice=VoiceOptions())
        task = asyncio.ensure_future(reply.run())
        await asyncio.sleep(moment_s)
        now_s = loop_time()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert loop_time() == now_s
        assert rooms.live == {}
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


@pytest.mark.parametrize("voice", [VOICE, VoiceOptions(speed=1.25, volume=1.5)])
@pytest.mark.parametrize("stopped_s", [0.3, 2.5, 9.0])
@pytest.mark.parametrize("is_kept", [True, False])
def test_a_stopped_reply_goes_on_as_if_it_had_not_been_stopped(
    voice: VoiceOptions, stopped_s: float, is_kept: bool
) -> None:
    whole, _, _ = spoken(TEXT, paces=PACED, voice=voice)

    async def main() -> None:
        rooms, before, after = FakeRooms(PACED, sleep=asyncio.sleep), Listener(), Listener()
        rooms.chat.answers.append(TEXT)
        reply, _ = reply_of(rooms, before, voice=voice)
        task = asyncio.ensure_future(reply.run())
        await asyncio.sleep(stopped_s)
        task.cancel()
        await asyncio.wait([task])
        made = reply.made
        if not is_kept:
            made = Made(written=made.written, is_written=made.is_written, is_foreign=True)
        sample = max(len(before.samples) - 20_000, 0)
        again = reply_again(rooms, after, made, sample=sample, text="".join(before.text), voice=voice)
        await again.run()
        assert "".join(before.text + after.text) == "".join(whole.text)
        assert after.audio[0].first_sample == sample
        if not is_kept:
            spoken_before = [piece.spoken_characters for piece in before.audio if piece.end_sample <= sample]
            assert after.taken_up is not None
            assert abs(after.taken_up.spoken_characters - max(spoken_before, default=0)) <= 8
        assert after.audio[-1].spoken_characters == len("".join(whole.text))
        assert np.allclose(after.samples, whole.samples[sample:], atol=1e-6)
        assert rooms.live == {}

    run(main())


def test_small_doors_slow_a_reply_down_and_change_nothing() -> None:
    tight = replace(ReplyLimits(), clauses_ms=16_000, speech_ms=2_000, audio_ms=300, max_chunk_ms=600)
    listener, _, _ = spoken(TEXT * 2, paces=PACED, limits=tight)
    assert np.array_equal(listener.samples, offline(TEXT * 2))
