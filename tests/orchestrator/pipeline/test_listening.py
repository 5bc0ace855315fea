"""Audio is kept by its positions, judged in order off the caller's path, and tokenized while it is spoken."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.pipeline.input_audio import InputAudio
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.pipeline.listening import Listening
from services.orchestrator.pipeline.utterances import SpokenUtterance
from services.orchestrator.ports.hearing import FRAME_SAMPLES
from services.orchestrator.ports.rooms import Samples, Work
from services.shared.errors import (
    CancelledRequestError,
    DeadlineExceededError,
    InvalidInputError,
    OverloadedError,
    RoomUnavailableError,
)
from tests.fakes.clock import run
from tests.fakes.hearing import FakeActivity, ScriptedDetector
from tests.fakes.rooms import PACED, FakeRooms, Fault, tokens_of
from tests.orchestrator.pipeline.house import loop_time

pytestmark = pytest.mark.unit

LIMITS = PipelineLimits()
RAMP = (np.arange(200_000) / 200_000).astype(np.float32)


@given(st.lists(st.integers(1, 700), min_size=1, max_size=30), st.data())
def test_kept_audio_is_found_by_its_positions_however_it_came(lengths: list[int], data: st.DataObject) -> None:
    audio = InputAudio(1000)
    for length in lengths:
        start = audio.end_sample - 1000
        audio.append(RAMP[start : start + length])
    start = data.draw(st.integers(900, audio.end_sample))
    end = data.draw(st.integers(start, audio.end_sample))
    audio.forget(data.draw(st.integers(0, audio.end_sample)))
    found = audio.read(start, end)
    whole = np.concatenate([np.zeros(1000, np.float32), RAMP])
    known = max(audio.first_sample - start, 0)
    assert len(found) == end - start
    assert np.array_equal(found[known:], whole[start + known : end])
    assert not found[:known].any()


def listening(
    detector: ScriptedDetector, *, limits: PipelineLimits = LIMITS, first_sample: int = 0
) -> tuple[Listening, list[tuple[int, float]]]:
    frames: list[tuple[int, float]] = []
    made = Listening(
        detector,
        limits,
        first_sample=first_sample,
        told=lambda end, probability: frames.append((end, probability)),
        clock=loop_time,
    )
    return made, frames


def test_what_is_told_is_known_by_its_arrival_and_other_things_have_none() -> None:
    async def main() -> None:
        detector, causes = ScriptedDetector([0.0] * 40, delay_s=0.3), list[float | None]()
        heard = Listening(
            detector, LIMITS, first_sample=0, told=lambda *_: causes.append(heard.cause_s), clock=loop_time
        )
        task = asyncio.ensure_future(heard.run())
        for _ in range(2):
            heard.hear(np.zeros(FRAME_SAMPLES * 3 // 2, np.float32), heard.end_sample)
            await asyncio.sleep(0.1)
        assert heard.cause_s is None
        acted: list[float | None] = []
        heard.after_audio(lambda: acted.append(heard.cause_s))
        await asyncio.sleep(2)
        assert causes == [0.0, pytest.approx(0.1), pytest.approx(0.1)]
        assert acted == [pytest.approx(0.2)]
        assert heard.cause_s is None
        heard.after_audio(lambda: acted.append(heard.cause_s))
        assert acted[1:] == [None]
        task.cancel()

    run(main())


def test_frames_are_judged_in_order_without_gaps_and_events_wait_for_the_audio_before_them() -> None:
    async def main() -> None:
        detector = ScriptedDetector([place / 100 for place in range(40)], delay_s=0.3)
        heard, frames = listening(detector)
        order: list[str] = []
        task = asyncio.ensure_future(heard.run())
        for place in range(40):
            heard.hear(np.zeros(500, np.float32), 500 * place)
        heard.after_audio(lambda: order.append(f"first after {len(frames)}"))
        heard.after_audio(lambda: order.append(f"second after {len(frames)}"))
        assert order == []
        await asyncio.sleep(10)
        whole = 40 * 500 // FRAME_SAMPLES
        assert frames == [((place + 1) * FRAME_SAMPLES, place / 100) for place in range(whole)]
        assert order == [f"first after {whole}", f"second after {whole}"]
        heard.after_audio(lambda: order.append("at once"))
        assert order[-1] == "at once"
        task.cancel()
        await asyncio.wait([task])
        assert detector.streams[0].closed

    run(main())


def test_audio_that_was_heard_before_is_dropped_and_a_gap_is_silence() -> None:
    async def main() -> None:
        heard, _ = listening(ScriptedDetector())
        heard.hear(RAMP[:1000], 0)
        heard.hear(RAMP[500:1500], 500)
        heard.hear(RAMP[:100], 100)
        heard.hear(RAMP[2000:2100], 2000)
        expected = np.concatenate([RAMP[:1500], np.zeros(500, np.float32), RAMP[2000:2100]])
        assert np.array_equal(heard.audio.read(0, 2100), expected)

    run(main())


def test_a_gap_that_is_too_long_is_refused_and_changes_nothing() -> None:
    async def main() -> None:
        heard, _ = listening(ScriptedDetector())
        with pytest.raises(InvalidInputError):
            heard.hear(RAMP[:10], LIMITS.gap_ms * 16 + 1)
        assert heard.end_sample == 0
        heard.hear(RAMP[:10], LIMITS.gap_ms * 16)
        assert heard.end_sample == LIMITS.gap_ms * 16 + 10

    run(main())


@pytest.mark.parametrize("gap_s", [3, 10, 3600])
def test_a_gap_of_any_length_is_told_as_silence_frame_by_frame_and_little_of_it_is_judged(gap_s: int) -> None:
    async def main() -> None:
        detector = ScriptedDetector([0.9] * 1000)
        heard, frames = listening(detector)
        task = asyncio.ensure_future(heard.run())
        heard.hear(RAMP[:1000], 0)
        heard.hear(RAMP[:3000], 1000 + gap_s * 16_000)
        order: list[int] = []
        heard.after_audio(lambda: order.append(len(frames)))
        await asyncio.sleep(1)
        whole = (4000 + gap_s * 16_000) // FRAME_SAMPLES
        assert [end for end, _ in frames] == [FRAME_SAMPLES * (place + 1) for place in range(whole)]
        assert order == [whole]
        judged = [end for end, probability in frames if probability]
        silent_ms = LIMITS.judged_gap_ms
        most = min(gap_s * 1000, silent_ms) * 16 + 4000
        assert most - 2 * FRAME_SAMPLES <= len(judged) * FRAME_SAMPLES <= most + 2 * FRAME_SAMPLES
        assert judged[-1] == frames[-1][0]
        assert (heard.end_sample - heard.audio.first_sample) / 16 <= gap_s * 1000 + 250
        heard.hear(RAMP[:100_000], heard.end_sample)
        await asyncio.sleep(1)
        heard.hear(RAMP[:100_000], heard.end_sample)
        await asyncio.sleep(1)
        assert (heard.end_sample - heard.audio.first_sample) / 16 < LIMITS.idle_hearing_ms + 7_000
        task.cancel()
        await asyncio.wait([task])

    run(main())


def test_audio_that_nobody_judges_is_bounded() -> None:
    async def main() -> None:
        heard, _ = listening(ScriptedDetector(), limits=PipelineLimits(unjudged_ms=1000))
        for place in range(50):
            heard.hear(RAMP[:320], place * 320)
        with pytest.raises(OverloadedError):
            heard.hear(RAMP[:320], 16_000)

    run(main())


def test_little_is_kept_while_nobody_speaks_and_all_of_an_utterance_otherwise() -> None:
    async def main() -> None:
        heard, _ = listening(ScriptedDetector())
        task = asyncio.ensure_future(heard.run())
        for follows, kept_ms in ((False, LIMITS.idle_hearing_ms), (True, LIMITS.hearing_ms)):
            heard.follows = follows
            for _ in range(60 * 16_000 // 3200):
                heard.hear(RAMP[:3200], heard.end_sample)
                await asyncio.sleep(0.2)
            assert kept_ms <= (heard.end_sample - heard.audio.first_sample) / 16 <= kept_ms + 500
        task.cancel()
        await asyncio.wait([task])

    run(main())


def utterance(rooms: FakeRooms, audio: InputAudio, first_sample: int = 0) -> SpokenUtterance:
    return SpokenUtterance(audio, first_sample, tokenizer=rooms.tokenizer, work=Work(), limits=LIMITS, clock=loop_time)


def test_an_utterance_is_pushed_while_it_is_spoken_and_only_as_far_as_it_is_settled() -> None:
    async def main() -> None:
        rooms, audio = FakeRooms(PACED, sleep=asyncio.sleep), InputAudio()
        spoken = utterance(rooms, audio, 160)
        task = asyncio.ensure_future(spoken.run())
        for _ in range(50):
            audio.append(RAMP[audio.end_sample : audio.end_sample + 320])
            spoken.settle(audio.end_sample - 1000)
            await asyncio.sleep(0.02)
        assert 16_000 - 1000 - 3840 < spoken.cursor <= 16_000 - 1000
        begun = rooms.tokenizer.begun
        spoken.end(15_200)
        assert await spoken.tokens() == tokens_of(RAMP[160:15_200])
        assert begun == 1
        assert spoken.work.requests >= 4
        await task
        assert rooms.live == {}

    run(main())


def test_a_piece_that_the_tokenizer_missed_is_not_lost() -> None:
    async def main() -> None:
        rooms, audio = FakeRooms(PACED, sleep=asyncio.sleep), InputAudio()
        rooms.tokenizer.faults.append(Fault(RoomUnavailableError("away")))
        spoken = utterance(rooms, audio)
        audio.append(RAMP[:16_000])
        spoken.settle(8_000)
        task = asyncio.ensure_future(spoken.run())
        await asyncio.sleep(1)
        spoken.end(16_000)
        assert await spoken.tokens() == tokens_of(RAMP[:16_000])
        await task

    run(main())


@pytest.mark.parametrize("error", [RoomUnavailableError("away"), None, ValueError("a fault of the adapter's")])
def test_tokens_that_cannot_be_made_fail_whoever_waits_for_them(error: Exception | None) -> None:
    async def main() -> None:
        rooms, audio = FakeRooms(sleep=asyncio.sleep), InputAudio()
        rooms.tokenizer.faults.extend([None, Fault(error)])  # type: ignore[arg-type]  # a foreign error on purpose
        spoken = utterance(rooms, audio)
        audio.append(RAMP[:16_000])
        task = asyncio.ensure_future(spoken.run())
        spoken.end(16_000)
        waiting = [asyncio.ensure_future(spoken.tokens()) for _ in range(2)]
        waiting[0].cancel()
        await asyncio.wait([*waiting, task])
        assert waiting[0].cancelled()
        assert waiting[1].exception() is not None
        assert task.exception() is None
        assert rooms.live == {}

    run(main())


def test_a_dropped_utterance_lets_go_of_the_tokenizer() -> None:
    async def main() -> None:
        rooms, audio = FakeRooms(PACED, sleep=asyncio.sleep), InputAudio()
        spoken = utterance(rooms, audio)
        audio.append(RAMP[:16_000])
        spoken.settle(16_000)
        task = asyncio.ensure_future(spoken.run())
        await asyncio.sleep(0.1)
        assert rooms.live == {"tokenizer": 1}
        task.cancel()
        await asyncio.wait([task])
        assert rooms.live == {}
        with pytest.raises(CancelledRequestError):
            await spoken.tokens()

    run(main())


def test_what_was_heard_is_let_go_when_listening_ends() -> None:
    async def main() -> None:
        heard, _ = listening(ScriptedDetector())
        task = asyncio.ensure_future(heard.run())
        heard.hear(RAMP[:5000], 0)
        await asyncio.sleep(1)
        assert heard.audio.first_sample == 0
        task.cancel()
        await asyncio.wait([task])
        assert heard.audio.first_sample == heard.audio.end_sample == 5000

    run(main())


class RefusingDetector(ScriptedDetector):
    """Judges so many calls and refuses those that follow."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self._calls = calls

    def open(self) -> FakeActivity:
        activity = super().open()
        judge = activity.judge

        def refusing(samples: Samples) -> "asyncio.Future[tuple[float, ...]]":
            self._calls -= 1
            if self._calls < 0:
                raise OverloadedError("too much waits")
            return judge(samples)

        activity.judge = refusing  # type: ignore[method-assign]  # this one stream's
        return activity


def test_a_refusal_of_voice_activity_ends_listening_and_nothing_is_asked_after_it() -> None:
    async def main() -> None:
        heard, frames = listening(RefusingDetector(calls=2))
        task = asyncio.ensure_future(heard.run())
        for place in range(6):
            heard.hear(RAMP[:FRAME_SAMPLES], FRAME_SAMPLES * place)
            await asyncio.sleep(0.1)
        with pytest.raises(OverloadedError):
            await task
        assert len(frames) == 2

    run(main())


@pytest.mark.parametrize("silence_s", [0, 60])
def test_an_error_of_whoever_is_told_ends_listening_and_is_raised(silence_s: int) -> None:
    async def main() -> None:
        def told(end_sample: int, _: float) -> None:
            if end_sample > 16_000 * silence_s:
                raise LookupError("a fault of the core's")

        detector = ScriptedDetector([0.0] * 4000, delay_s=0.3)
        heard = Listening(detector, LIMITS, first_sample=0, told=told, clock=loop_time)
        task = asyncio.ensure_future(heard.run())
        heard.hear(np.zeros(2 * FRAME_SAMPLES, np.float32), 16_000 * silence_s)
        with pytest.raises(LookupError, match="a fault of the core's"):
            async with asyncio.timeout(LIMITS.vad_s / 2 + 30):
                await task

    run(main())


def test_an_answer_that_takes_too_long_ends_listening_at_its_limit() -> None:
    async def main() -> None:
        heard, frames = listening(ScriptedDetector(delay_s=100.0), limits=PipelineLimits(vad_s=5.0))
        task = asyncio.ensure_future(heard.run())
        await asyncio.sleep(3)
        heard.hear(RAMP[:FRAME_SAMPLES], 0)
        await asyncio.wait([task])
        assert isinstance(task.exception(), DeadlineExceededError)
        assert loop_time() == pytest.approx(8.0)
        assert not frames

    run(main())
