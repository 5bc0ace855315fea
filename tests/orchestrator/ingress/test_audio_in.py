"""The user's audio: any chunks give the same samples, positions hold, and the pace is kept."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.orchestrator.ingress.audio_in import AudioInput, HeardSamples
from services.shared.audio.codecs import OPUS_RATES_HZ, AudioEncoding, AudioFormat, make_decoder, make_encoder
from services.shared.audio.pcm import Samples
from services.shared.audio.positions import InputPositions
from services.shared.audio.resample import resample
from services.shared.errors import (
    InputTooFastError,
    InvalidInputError,
    NonFiniteAudioError,
    StepAudioError,
    UnreadableAudioError,
    UnsupportedAudioFormatError,
)

pytestmark = pytest.mark.unit

PLAIN = [encoding for encoding in AudioEncoding if encoding is not AudioEncoding.OPUS]
RATES_HZ = [8000, 11_025, 16_000, 22_050, 24_000, 44_100, 47_999, 48_000]
PCM_8K = AudioFormat(AudioEncoding.PCM16, 8000)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def hum(count: int, seed: int = 5) -> Samples:
    samples: Samples = np.random.default_rng(seed).uniform(-0.5, 0.5, count).astype(np.float32)
    return samples


def unpaced(format_: AudioFormat, *, first_sample: int = 0) -> AudioInput:
    return AudioInput(format_, clock=Clock(), first_sample=first_sample, max_ahead_s=math.inf)


def joined(pieces: Sequence[HeardSamples]) -> Samples:
    """All samples, with their positions held to be without gaps."""
    for before, after in itertools.pairwise(pieces):
        assert after.first_sample == before.first_sample + len(before.samples)
    return np.concatenate([piece.samples for piece in pieces])


def pcm(samples: Samples) -> bytes:
    return make_encoder(PCM_8K).encode(samples)


@settings(max_examples=60)
@given(
    encoding=st.sampled_from(PLAIN),
    rate_hz=st.sampled_from(RATES_HZ),
    lengths_ms=st.lists(st.integers(10, 200), max_size=12),
    last=st.integers(1, 79),
)
def test_any_chunks_give_the_samples_of_the_whole(
    encoding: AudioEncoding, rate_hz: int, lengths_ms: list[int], last: int
) -> None:
    format_ = AudioFormat(encoding, rate_hz)
    counts = [rate_hz * ms // 1000 for ms in lengths_ms] + [last]
    data = make_encoder(format_).encode(hum(sum(counts)))
    audio, heard, begin = unpaced(format_), [], 0
    width = len(data) // sum(counts)
    for count in counts:
        heard.append(audio.push(data[begin * width : (begin + count) * width]))
        begin += count
    heard.append(audio.flush())
    assert np.array_equal(joined(heard), resample(make_decoder(format_).decode(data), rate_hz, 16_000))
    assert audio.next_sample == sum(counts)
    assert audio.heard_end == audio.positions.ours(sum(counts))


@pytest.mark.parametrize("packet_ms", [10, 20, 40, 60])
@pytest.mark.parametrize("rate_hz", OPUS_RATES_HZ)
def test_opus_gives_its_decoders_samples(rate_hz: int, packet_ms: int) -> None:
    format_ = AudioFormat(AudioEncoding.OPUS, rate_hz)
    encoder, step = make_encoder(format_, packet_ms=packet_ms), rate_hz * packet_ms // 1000
    packets = [encoder.encode(piece) for piece in hum(step * 6).reshape(6, step)]
    audio, decoder = unpaced(format_), make_decoder(format_)
    heard = [audio.push(packet, index * step) for index, packet in enumerate(packets)]
    whole = np.concatenate([decoder.decode(packet) for packet in packets])
    assert np.array_equal(joined([*heard, audio.flush()]), resample(whole, 48_000, 16_000))
    assert audio.next_sample == 6 * step
    assert audio.heard_end == 6 * packet_ms * 16


@settings(max_examples=60)
@given(
    rate_hz=st.sampled_from(RATES_HZ),
    chunks=st.lists(st.tuples(st.integers(-400, 2500), st.integers(10, 200)), min_size=1, max_size=10),
)
def test_what_came_before_is_dropped_and_gaps_are_silence(rate_hz: int, chunks: list[tuple[int, int]]) -> None:
    format_ = AudioFormat(AudioEncoding.FLOAT32, rate_hz)
    audio, heard, expected = unpaced(format_), [], np.zeros(0, np.float32)
    for index, (offset_ms, length_ms) in enumerate(chunks):
        first = max(len(expected) + rate_hz * offset_ms // 1000, 0)
        samples = hum(rate_hz * length_ms // 1000, index)
        known, gap = max(len(expected) - first, 0), max(first - len(expected), 0)
        if known < len(samples):
            expected = np.concatenate([expected, np.zeros(gap, np.float32), samples[known:]])
        heard.append(audio.push(samples.astype("<f4").tobytes(), first))
        assert audio.next_sample == len(expected)
    heard.append(audio.flush())
    assert np.array_equal(joined(heard), resample(expected, rate_hz, 16_000))


def test_a_repeated_opus_packet_changes_nothing() -> None:
    format_ = AudioFormat(AudioEncoding.OPUS, 24_000)
    encoder = make_encoder(format_)
    packets = [encoder.encode(piece) for piece in hum(480 * 5).reshape(5, 480)]
    once, twice = unpaced(format_), unpaced(format_)
    plain = [once.push(packet, 480 * index) for index, packet in enumerate(packets)]
    again = []
    for index, packet in enumerate(packets):
        again += [twice.push(packet, 480 * index), twice.push(packets[0], 0)]
    assert np.array_equal(joined(again), joined(plain))


def test_resampling_holds_back_less_than_2_ms() -> None:
    for rate_hz in RATES_HZ:
        audio = unpaced(AudioFormat(AudioEncoding.PCM16, rate_hz))
        for _ in range(10):
            audio.push(bytes(2 * (rate_hz // 50)))
        assert 0 <= audio.positions.ours(audio.next_sample) - audio.heard_end < 32


@settings(max_examples=100)
@given(rate_hz=st.integers(8000, 48_000), sample=st.integers(0, 1 << 40))
def test_positions_are_the_same_there_and_back_and_never_fall(rate_hz: int, sample: int) -> None:
    positions = InputPositions(rate_hz, 16_000)
    if rate_hz >= 16_000:
        assert positions.ours(positions.theirs(sample)) == sample
    if rate_hz <= 16_000:
        assert positions.theirs(positions.ours(sample)) == sample
    assert positions.theirs(sample) <= positions.theirs(sample + 1)
    assert positions.ours(sample) <= positions.ours(sample + 1)
    assert abs(positions.ours(sample) / 16_000 - sample / rate_hz) < 1 / 16_000 + 1e-3


@settings(max_examples=40)
@given(rate_hz=st.sampled_from(RATES_HZ), at=st.integers(0, 20_000))
def test_a_resumed_stream_goes_on_at_the_session_s_sample(rate_hz: int, at: int) -> None:
    format_ = AudioFormat(AudioEncoding.FLOAT32, rate_hz)
    whole = hum(rate_hz * 3 // 2)
    reference = resample(whole, rate_hz, 16_000)
    audio = unpaced(format_, first_sample=at)
    assert audio.next_sample == at * rate_hz // 16_000
    heard = [
        audio.push(whole[begin : begin + rate_hz // 10].astype("<f4").tobytes(), begin)
        for begin in range(0, len(whole), rate_hz // 10)
    ]
    found = joined([*heard, audio.flush()])
    assert heard[0].first_sample == at
    settled = 32  # the filter looks this far back, to what the new stream does not have
    assert len(found) == len(reference) - at
    assert np.array_equal(found[settled:], reference[at + settled :])


@pytest.mark.parametrize(
    ("data", "first_sample", "error"),
    [
        (b"", None, UnreadableAudioError),
        (bytes(321), None, UnreadableAudioError),
        (bytes(2 * 1601), None, UnsupportedAudioFormatError),
        (bytes(1 << 20), None, UnsupportedAudioFormatError),
        (bytes(320), -1, InvalidInputError),
        (bytes(320), 160 + 30 * 8000 + 1, InvalidInputError),
        (bytes(320), 1 << 62, InvalidInputError),
    ],
)
def test_a_refused_chunk_has_no_effect(data: bytes, first_sample: int | None, error: type[StepAudioError]) -> None:
    audio, clean = unpaced(PCM_8K), unpaced(PCM_8K)
    pieces = [pcm(hum(160, seed)) for seed in range(3)]
    heard = [audio.push(pieces[0])]
    with pytest.raises(error) as refused:
        audio.push(data, first_sample)
    assert type(refused.value) is error
    assert refused.value.details["field"] in ("audio.data", "audio.first_sample")
    heard += [audio.push(pieces[1]), audio.push(pieces[2]), audio.flush()]
    assert np.array_equal(joined(heard), joined([clean.push(piece) for piece in pieces] + [clean.flush()]))


def test_refused_numbers_leave_no_trace_in_pace_or_place() -> None:
    format_ = AudioFormat(AudioEncoding.FLOAT32, 16_000)
    audio = AudioInput(format_, clock=Clock())
    bad = np.full(3200, np.nan, "<f4").tobytes()
    for _ in range(50):
        with pytest.raises(NonFiniteAudioError):
            audio.push(bad)
    assert audio.next_sample == 0
    for _ in range(10):
        audio.push(bytes(4 * 3200))


def test_a_short_chunk_ends_an_utterance_and_two_in_a_row_are_refused() -> None:
    audio = unpaced(PCM_8K)
    audio.push(bytes(2 * 160))
    audio.push(bytes(2 * 7))
    with pytest.raises(UnsupportedAudioFormatError, match="10 to 200 ms"):
        audio.push(bytes(2 * 79))
    audio.push(bytes(2 * 80))
    audio.push(bytes(2))
    assert audio.next_sample == 160 + 7 + 80 + 1


@pytest.mark.parametrize(("rate_hz", "least", "most"), [(22_050, 220, 4410), (11_025, 110, 2205), (8001, 80, 1601)])
def test_limits_of_a_chunk_are_rounded_in_the_clients_favour(rate_hz: int, least: int, most: int) -> None:
    audio = unpaced(AudioFormat(AudioEncoding.PCM16, rate_hz))
    for count in (least, least, most, most):
        audio.push(bytes(2 * count))
    with pytest.raises(UnsupportedAudioFormatError):
        audio.push(bytes(2 * (most + 1)))


def send(audio: AudioInput, seconds: float) -> None:
    for _ in range(round(seconds * 10)):
        audio.push(bytes(2 * 800))


def test_audio_may_be_2_s_ahead_and_no_more() -> None:
    audio = AudioInput(PCM_8K, clock=Clock())
    send(audio, 2.0)
    with pytest.raises(InputTooFastError) as refused:
        send(audio, 0.1)
    assert refused.value.details["limit"] == "2 s"


def test_audio_at_the_speed_of_speech_is_never_too_fast() -> None:
    clock = Clock()
    audio = AudioInput(PCM_8K, clock=clock)
    send(audio, 1.9)
    for _ in range(600):
        clock.now_s += 0.1
        send(audio, 0.1)


def test_a_little_faster_than_speech_is_found_out() -> None:
    clock = Clock()
    audio = AudioInput(PCM_8K, clock=clock)
    for _ in range(190):
        clock.now_s += 0.09
        send(audio, 0.1)
    clock.now_s += 0.09 * 11
    with pytest.raises(InputTooFastError):
        send(audio, 1.2)


def test_what_a_network_held_up_may_come_at_once() -> None:
    clock = Clock()
    audio = AudioInput(PCM_8K, clock=clock)
    clock.now_s += 20
    send(audio, 22)
    with pytest.raises(InputTooFastError):
        send(audio, 0.1)


def test_a_long_silence_of_the_client_is_no_credit_without_end() -> None:
    clock = Clock()
    audio = AudioInput(PCM_8K, clock=clock)
    clock.now_s += 3600
    send(audio, 32)
    with pytest.raises(InputTooFastError):
        send(audio, 0.1)


def test_a_gap_counts_as_audio_and_a_repetition_does_not() -> None:
    clock = Clock()
    audio = AudioInput(PCM_8K, clock=clock)
    for _ in range(100):
        audio.push(bytes(2 * 800), 0)
    with pytest.raises(InputTooFastError):
        audio.push(bytes(2 * 800), 3 * 8000)
    assert audio.next_sample == 800


def test_a_resume_may_send_again_what_it_kept() -> None:
    audio = AudioInput(PCM_8K, clock=Clock(), first_sample=32_000, replay_s=45.0)
    audio.push(bytes(2 * 800), 16_000 + 44 * 8000)  # what was not kept counts as silence
    send(audio, 2.8)
    with pytest.raises(InputTooFastError):
        send(audio, 0.2)


def test_only_the_first_chunk_of_a_resume_may_leave_a_long_gap() -> None:
    audio = AudioInput(PCM_8K, clock=Clock(), replay_s=120.0)
    audio.push(bytes(2 * 800), 40 * 8000)
    with pytest.raises(InvalidInputError):
        audio.push(bytes(2 * 800), 80 * 8000)


def test_the_rate_of_hearing_passes_unchanged() -> None:
    audio = unpaced(AudioFormat(AudioEncoding.PCM16, 16_000))
    heard = audio.push(pcm(hum(320)))
    assert len(heard.samples) == 320
    assert not len(audio.flush().samples)
