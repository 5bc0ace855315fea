"""A reply's audio: chunks of the length asked for, positions without gaps, captions that never fall."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.orchestrator.ingress.audio_out import AudioOutput, ReplyChunk, check_chunk_ms, preskip_samples
from services.shared.audio.codecs import OPUS_RATES_HZ, AudioEncoding, AudioFormat, make_decoder
from services.shared.audio.effects import change_volume
from services.shared.audio.pcm import Samples
from services.shared.audio.positions import OutputPositions
from services.shared.audio.resample import resample
from services.shared.errors import UnsupportedAudioFormatError

pytestmark = pytest.mark.unit

OUR_RATE_HZ = 22_050
RATES_HZ = [8000, 11_025, 16_000, 22_050, 24_000, 44_100, 47_999, 48_000]


def hum(count: int) -> Samples:
    samples: Samples = np.random.default_rng(5).uniform(-0.5, 0.5, count).astype(np.float32)
    return samples


def float32(rate_hz: int) -> AudioFormat:
    return AudioFormat(AudioEncoding.FLOAT32, rate_hz)


def sent(output: AudioOutput, samples: Samples, cuts: list[int], characters: int = 0) -> list[ReplyChunk]:
    """All chunks of a reply that comes in pieces, its text spoken evenly."""
    edges = [0, *sorted(min(cut, len(samples)) for cut in cuts), len(samples)]
    chunks: list[ReplyChunk] = []
    for begin, end in itertools.pairwise(edges):
        chunks += output.push(samples[begin:end], characters * end // max(len(samples), 1))
    return chunks + output.flush()


def hold_positions(chunks: list[ReplyChunk], begin: int, end: int) -> None:
    edges = [begin] + [chunk.end_sample for chunk in chunks]
    assert [chunk.first_sample for chunk in chunks] == edges[:-1]
    assert edges == sorted(edges)
    assert edges[-1] == end


def content(chunks: list[ReplyChunk], rate_hz: int) -> Samples:
    decoder = make_decoder(float32(rate_hz))
    return np.concatenate([np.zeros(0, np.float32), *(decoder.decode(chunk.data) for chunk in chunks)])


@settings(max_examples=80)
@given(
    rate_hz=st.sampled_from(RATES_HZ),
    chunk_ms=st.sampled_from([0, 10, 20, 33, 60, 200]),
    length=st.integers(0, 30_000),
    cuts=st.lists(st.integers(0, 30_000), max_size=10),
)
def test_any_pieces_give_the_samples_of_the_whole_without_gaps(
    rate_hz: int, chunk_ms: int, length: int, cuts: list[int]
) -> None:
    samples = hum(length)
    output = AudioOutput(float32(rate_hz), OUR_RATE_HZ, chunk_ms=chunk_ms)
    chunks = sent(output, samples, cuts, characters=70)
    expected = resample(samples, OUR_RATE_HZ, rate_hz)
    assert np.array_equal(content(chunks, rate_hz), expected)
    hold_positions(chunks, 0, len(expected))
    lengths = [chunk.end_sample - chunk.first_sample for chunk in chunks]
    if chunk_ms:
        assert set(lengths[:-1]) <= {min(max(round(rate_hz * chunk_ms / 1000), -(-rate_hz // 100)), rate_hz // 5)}
    assert all(10 * rate_hz <= count * 1000 <= 200 * rate_hz for count in lengths[:-1])
    assert not lengths or 0 < lengths[-1] <= rate_hz // 5
    captions = [chunk.spoken_characters for chunk in chunks]
    assert captions == sorted(captions)
    assert not captions or captions[-1] == 70


@settings(max_examples=30)
@given(
    rate_hz=st.sampled_from(OPUS_RATES_HZ),
    chunk_ms=st.sampled_from([0, 10, 20, 40, 60]),
    length=st.integers(0, 12_000),
    cuts=st.lists(st.integers(0, 12_000), max_size=6),
)
def test_opus_packets_have_no_gaps_and_hold_the_whole_reply(
    rate_hz: int, chunk_ms: int, length: int, cuts: list[int]
) -> None:
    format_ = AudioFormat(AudioEncoding.OPUS, rate_hz)
    chunks = sent(AudioOutput(format_, OUR_RATE_HZ, chunk_ms=chunk_ms), hum(length), cuts, characters=9)
    total = OutputPositions(OUR_RATE_HZ, rate_hz).theirs(length)
    hold_positions(chunks, 0, total)
    decoder, step = make_decoder(format_), rate_hz * (chunk_ms or 20) // 1000
    assert {decoder.count(chunk.data) for chunk in chunks} <= {step}
    if chunks:
        assert chunks[0].end_sample == min(step - preskip_samples(format_), total)
        assert len(chunks) == -(-(total + preskip_samples(format_)) // step), "no packet of mere silence"
        assert chunks[-1].spoken_characters == 9


def test_opus_comes_back_where_its_positions_say() -> None:
    format_ = AudioFormat(AudioEncoding.OPUS, 48_000)
    white = np.random.default_rng(7).standard_normal(22_050)
    samples = (0.3 * np.convolve(white, np.ones(9) / 9, "same")).astype(np.float32)
    chunks = sent(AudioOutput(format_, OUR_RATE_HZ), samples, [])
    decoder = make_decoder(format_)
    heard = np.concatenate([decoder.decode(chunk.data) for chunk in chunks])[preskip_samples(format_) :]
    expected = resample(samples, OUR_RATE_HZ, 48_000)
    assert len(heard) >= len(expected)
    likeness = [float(expected[9600:38_400] @ heard[9600 + lag : 38_400 + lag]) for lag in range(-40, 40)]
    assert abs(int(np.argmax(likeness)) - 40) <= 6


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("at", [1, 441, 10_007])
def test_the_rest_of_a_reply_has_the_samples_and_positions_of_the_whole(rate_hz: int, at: int) -> None:
    samples = hum(20_000)
    whole = resample(samples, OUR_RATE_HZ, rate_hz)
    output = AudioOutput(float32(rate_hz), OUR_RATE_HZ, first_sample=at, spoken_characters=5)
    begin = output.end_sample
    chunks = sent(output, samples[at:], [3000], characters=40)
    hold_positions(chunks, begin, len(whole))
    found, settled = content(chunks, rate_hz), 48
    assert len(found) == len(whole) - begin
    assert np.array_equal(found[settled:], whole[begin + settled :])
    assert chunks[0].spoken_characters >= 5


@settings(max_examples=100)
@given(rate_hz=st.integers(8000, 48_000), sample=st.integers(0, 1 << 40))
def test_positions_never_fall_and_an_acknowledged_end_is_the_end(rate_hz: int, sample: int) -> None:
    positions = OutputPositions(OUR_RATE_HZ, rate_hz)
    if rate_hz >= OUR_RATE_HZ:
        assert positions.ours(positions.theirs(sample)) == sample
    else:
        assert positions.theirs(positions.ours(sample)) == sample
        assert positions.ours(positions.theirs(sample)) >= sample
    assert positions.theirs(sample) <= positions.theirs(sample + 1)
    assert positions.ours(sample) <= positions.ours(sample + 1)
    assert positions.theirs(positions.ours(sample)) <= sample, "what goes on never leaves a gap"


def test_captions_rise_in_proportion_within_a_piece() -> None:
    output = AudioOutput(float32(22_050), OUR_RATE_HZ, chunk_ms=100)
    chunks = output.push(hum(2205 * 4), 40) + output.push(hum(2205 * 2), 40) + output.push(hum(2205), 47)
    assert [chunk.spoken_characters for chunk in chunks] == [10, 20, 30, 40, 40, 40, 47]


def test_text_that_ends_without_sound_is_spoken_with_the_last_chunk() -> None:
    output = AudioOutput(float32(22_050), OUR_RATE_HZ, chunk_ms=20)
    output.push(hum(1000), 5)
    assert output.push(np.zeros(0, np.float32), 9) == []
    assert output.flush()[-1].spoken_characters == 9


def test_a_server_that_may_choose_sends_what_is_there_at_once() -> None:
    output = AudioOutput(float32(22_050), OUR_RATE_HZ)
    assert not output.push(hum(200), 0), "less than 10 ms waits"
    (chunk,) = output.push(hum(2000), 0)
    assert chunk.end_sample == 2200
    pieces = output.push(hum(10_000), 0)
    assert [piece.end_sample - piece.first_sample for piece in pieces] == [3333, 3333, 3334]


def test_volume_is_that_of_the_effect() -> None:
    samples = hum(5000)
    chunks = sent(AudioOutput(float32(22_050), OUR_RATE_HZ, volume=3.0), samples, [700])
    assert np.array_equal(content(chunks, 22_050), change_volume(samples, 3.0))


def test_a_reply_without_a_sample_has_no_chunk() -> None:
    for encoding in AudioEncoding:
        assert not AudioOutput(AudioFormat(encoding, 8000), OUR_RATE_HZ).flush()


@pytest.mark.parametrize(
    ("encoding", "chunk_ms"),
    [
        (AudioEncoding.PCM16, -1),
        (AudioEncoding.PCM16, 9),
        (AudioEncoding.ALAW, 201),
        (AudioEncoding.OPUS, 30),
        (AudioEncoding.OPUS, 80),
    ],
)
def test_a_length_of_chunks_that_is_not_given_is_refused(encoding: AudioEncoding, chunk_ms: int) -> None:
    for refuse in (check_chunk_ms, lambda form, ms: AudioOutput(form, OUR_RATE_HZ, chunk_ms=ms)):
        with pytest.raises(UnsupportedAudioFormatError) as refused:
            refuse(AudioFormat(encoding, 16_000), chunk_ms)
        assert refused.value.details["value"] == str(chunk_ms)


def test_only_opus_has_a_preskip() -> None:
    found = {encoding: preskip_samples(AudioFormat(encoding, 16_000)) for encoding in AudioEncoding}
    assert found == dict.fromkeys(AudioEncoding, 0) | {AudioEncoding.OPUS: 104}
