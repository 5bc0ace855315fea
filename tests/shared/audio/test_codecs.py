"""Bytes and samples: G.711 against the standard, whole samples, damage, and Opus packets."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from services.shared.audio.codecs import (
    OPUS_PACKETS_MS,
    OPUS_RATES_HZ,
    AudioEncoding,
    AudioFormat,
    make_decoder,
    make_encoder,
)
from services.shared.audio.pcm import Samples
from services.shared.audio.resample import resample
from services.shared.errors import NonFiniteAudioError, UnreadableAudioError, UnsupportedAudioFormatError

pytestmark = pytest.mark.unit

PLAIN = [encoding for encoding in AudioEncoding if encoding is not AudioEncoding.OPUS]
G711 = [AudioEncoding.MULAW, AudioEncoding.ALAW]


def decoded(encoding: AudioEncoding, data: bytes) -> Samples:
    return make_decoder(AudioFormat(encoding, 8000)).decode(data)


def encoded(encoding: AudioEncoding, samples: Samples) -> bytes:
    return make_encoder(AudioFormat(encoding, 8000)).encode(samples)


def linear(*values: int) -> Samples:
    return (np.array(values, np.float32) / np.float32(32768)).astype(np.float32)


def hum(rate_hz: int, seconds: float) -> Samples:
    """Coloured noise: no two stretches are alike, so that a delay can be found."""
    white = np.random.default_rng(7).standard_normal(round(rate_hz * seconds))
    samples: Samples = (0.3 * np.convolve(white, np.ones(9) / 9, "same")).astype(np.float32)
    return samples


@pytest.mark.parametrize(
    ("encoding", "code", "value"),
    [  # G.711, tables 1a, 1b, 2a and 2b, on the 16-bit scale; A-law's even bits as transmitted, inverted
        (AudioEncoding.MULAW, 0x80, 32124),
        (AudioEncoding.MULAW, 0x8F, 16764),
        (AudioEncoding.MULAW, 0x9F, 8316),
        (AudioEncoding.MULAW, 0xAF, 4092),
        (AudioEncoding.MULAW, 0xEF, 132),
        (AudioEncoding.MULAW, 0xFE, 8),
        (AudioEncoding.MULAW, 0xFF, 0),
        (AudioEncoding.MULAW, 0x7F, 0),
        (AudioEncoding.MULAW, 0x00, -32124),
        (AudioEncoding.ALAW, 0xAA, 32256),
        (AudioEncoding.ALAW, 0xA5, 16896),
        (AudioEncoding.ALAW, 0xB5, 8448),
        (AudioEncoding.ALAW, 0xD5, 8),
        (AudioEncoding.ALAW, 0x55, -8),
        (AudioEncoding.ALAW, 0x2A, -32256),
    ],
)
def test_g711_codes_have_the_standards_values(encoding: AudioEncoding, code: int, value: int) -> None:
    assert decoded(encoding, bytes([code]))[0] * 32768 == value


@pytest.mark.parametrize(
    ("encoding", "sample", "code"),
    [  # both sides of decision values; a negative sample counts by its one's complement
        (AudioEncoding.MULAW, 0, 0xFF),
        (AudioEncoding.MULAW, 3, 0xFF),
        (AudioEncoding.MULAW, 4, 0xFE),
        (AudioEncoding.MULAW, 123, 0xF0),
        (AudioEncoding.MULAW, 124, 0xEF),
        (AudioEncoding.MULAW, -4, 0x7F),
        (AudioEncoding.MULAW, -5, 0x7E),
        (AudioEncoding.MULAW, 32767, 0x80),
        (AudioEncoding.MULAW, -32768, 0x00),
        (AudioEncoding.ALAW, 0, 0xD5),
        (AudioEncoding.ALAW, 15, 0xD5),
        (AudioEncoding.ALAW, 16, 0xD4),
        (AudioEncoding.ALAW, -1, 0x55),
        (AudioEncoding.ALAW, -17, 0x54),
        (AudioEncoding.ALAW, 32767, 0xAA),
        (AudioEncoding.ALAW, -32768, 0x2A),
    ],
)
def test_g711_decides_where_the_standard_does(encoding: AudioEncoding, sample: int, code: int) -> None:
    assert encoded(encoding, linear(sample))[0] == code


@pytest.mark.parametrize("encoding", G711)
def test_g711_codes_survive_the_way_there_and_back(encoding: AudioEncoding) -> None:
    codes = bytes(range(256))
    again = encoded(encoding, decoded(encoding, codes))
    same = [a == b for a, b in zip(codes, again, strict=True)]
    assert same.count(False) == (encoding is AudioEncoding.MULAW)  # its negative zero becomes the positive one


@pytest.mark.parametrize("encoding", G711)
def test_g711_takes_the_nearest_value_there_is(encoding: AudioEncoding) -> None:
    every = np.arange(-32768, 32768)
    values: NDArray[np.float32] = np.sort(decoded(encoding, bytes(range(256)))) * 32768
    found = decoded(encoding, encoded(encoding, linear(*every.tolist()))) * 32768
    right = np.clip(np.searchsorted(values, every), 1, 255)
    nearest = np.minimum(np.abs(values[right] - every), np.abs(values[right - 1] - every))
    excess = np.abs(found - every) - nearest
    assert (excess <= 4 + np.abs(every) / 60).all()  # segments meet a little off the middle of two values
    assert np.mean(excess > 4) < 0.02


def test_pcm16_is_exact_both_ways() -> None:
    data = np.arange(-32768, 32768).astype("<i2").tobytes()
    samples = decoded(AudioEncoding.PCM16, data)
    assert (samples[0], samples[32768], samples[-1]) == (-1.0, 0.0, 32767 / 32768)
    assert encoded(AudioEncoding.PCM16, samples) == data


def test_float32_is_clipped_and_otherwise_left() -> None:
    data = np.array([-2.0, -1.0, 0.123, 1.0, 1.5], "<f4").tobytes()
    assert decoded(AudioEncoding.FLOAT32, data).tolist() == [-1.0, -1.0, np.float32(0.123), 1.0, 1.0]


@pytest.mark.parametrize("encoding", PLAIN)
def test_what_is_too_loud_is_clipped_and_never_wraps(encoding: AudioEncoding) -> None:
    loud = decoded(encoding, encoded(encoding, np.array([-3.0, -1.0, 1.0, 3.0], np.float32)))
    assert (loud[0], loud[3]) == (loud[1], loud[2])
    assert loud[0] < -0.9
    assert loud[3] > 0.9


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(NonFiniteAudioError):
        decoded(AudioEncoding.FLOAT32, np.array([0.0, value], "<f4").tobytes())


@pytest.mark.parametrize(
    ("encoding", "count"), [(AudioEncoding.PCM16, 3), (AudioEncoding.FLOAT32, 6), (AudioEncoding.FLOAT32, 1)]
)
def test_bytes_that_are_no_whole_samples_are_refused(encoding: AudioEncoding, count: int) -> None:
    with pytest.raises(UnreadableAudioError) as refused:
        decoded(encoding, bytes(count))
    assert refused.value.details == {"field": "audio.data", "value": f"{count} bytes"}


@pytest.mark.parametrize("encoding", AudioEncoding)
def test_an_empty_chunk_is_refused(encoding: AudioEncoding) -> None:
    with pytest.raises(UnreadableAudioError):
        decoded(encoding, b"")


@pytest.mark.parametrize("rate_hz", [-1, 0, 7999, 48_001, 1 << 31])
@pytest.mark.parametrize("encoding", AudioEncoding)
def test_a_rate_outside_the_limits_is_refused(encoding: AudioEncoding, rate_hz: int) -> None:
    with pytest.raises(UnsupportedAudioFormatError) as refused:
        AudioFormat(encoding, rate_hz)
    assert refused.value.details["field"] == "sample_rate_hz"
    assert refused.value.details["value"] == str(rate_hz)


@pytest.mark.parametrize("rate_hz", [8001, 22_050, 44_100])
def test_opus_has_rates_of_its_own(rate_hz: int) -> None:
    AudioFormat(AudioEncoding.PCM16, rate_hz)
    with pytest.raises(UnsupportedAudioFormatError):
        AudioFormat(AudioEncoding.OPUS, rate_hz)


@pytest.mark.parametrize("packet_ms", OPUS_PACKETS_MS)
@pytest.mark.parametrize("rate_hz", OPUS_RATES_HZ)
def test_opus_comes_back_whole_and_later_by_the_preskip(rate_hz: int, packet_ms: int) -> None:
    samples = hum(rate_hz, 0.96)
    format_ = AudioFormat(AudioEncoding.OPUS, rate_hz)
    encoder, decoder = make_encoder(format_, packet_ms=packet_ms), make_decoder(format_)
    step = rate_hz * packet_ms // 1000
    packets = [encoder.encode(samples[begin : begin + step]) for begin in range(0, len(samples), step)]
    assert {decoder.count(packet) for packet in packets} == {step}
    out = np.concatenate([decoder.decode(packet) for packet in packets])
    assert len(out) * rate_hz == len(samples) * 48_000

    expected = resample(samples, rate_hz, 48_000)[4800:24_000]
    likeness = [float(expected @ out[4800 + lag : 24_000 + lag]) for lag in range(600)]
    assert abs(int(np.argmax(likeness)) - encoder.preskip_samples * 48_000 // rate_hz) <= 6, "0.125 ms"
    assert encoder.preskip_samples * 1000 / rate_hz == 6.5


def test_opus_streams_do_not_share_their_state() -> None:
    format_ = AudioFormat(AudioEncoding.OPUS, 16_000)
    samples = hum(16_000, 0.2)
    first, second = make_encoder(format_), make_encoder(format_)
    alone = [first.encode(samples[begin : begin + 320]) for begin in range(0, 3200, 320)]
    decoder = make_decoder(format_)
    once = [decoder.decode(packet) for packet in alone]
    assert alone[0] == second.encode(samples[:320])
    assert np.array_equal(make_decoder(format_).decode(alone[0]), once[0])


@pytest.mark.parametrize("packet_ms", [0, 5, 25, 80, 120])
def test_opus_packets_of_other_lengths_are_not_made(packet_ms: int) -> None:
    with pytest.raises(UnsupportedAudioFormatError):
        make_encoder(AudioFormat(AudioEncoding.OPUS, 16_000), packet_ms=packet_ms)


@pytest.mark.parametrize(
    "packet",
    [b"\x80\x00", b"\x88\x00", b"\x1b\x02\x00", b"\xfb\x06\x00"],
    ids=["2.5 ms", "5 ms", "2 x 60 ms", "6 x 20 ms"],
)
def test_opus_packets_of_other_lengths_are_refused(packet: bytes) -> None:
    with pytest.raises(UnsupportedAudioFormatError, match="10, 20, 40 or 60 ms"):
        make_decoder(AudioFormat(AudioEncoding.OPUS, 16_000)).count(packet)


def test_opus_packets_of_silence_may_be_a_single_byte() -> None:
    decoder = make_decoder(AudioFormat(AudioEncoding.OPUS, 16_000))
    assert len(decoder.decode(b"\x08")) == 960  # discontinuous transmission: 20 ms without a byte of sound


@pytest.mark.parametrize("packet", [b"\x03", b"\x0b\x00", b"\x0a\xff", b"\x09\x01", b"\x0b\x82"])
def test_damaged_opus_packets_are_refused_and_the_stream_goes_on(packet: bytes) -> None:
    format_ = AudioFormat(AudioEncoding.OPUS, 16_000)
    encoder, decoder = make_encoder(format_), make_decoder(format_)
    good = [encoder.encode(piece) for piece in np.split(hum(16_000, 0.2), 10)]
    decoder.decode(good[0])
    with pytest.raises((UnreadableAudioError, UnsupportedAudioFormatError)):
        decoder.decode(packet)
    assert [len(decoder.decode(one)) for one in good[1:]] == [960] * 9


def test_any_bytes_are_opus_or_refused() -> None:
    decoder = make_decoder(AudioFormat(AudioEncoding.OPUS, 16_000))
    random = np.random.default_rng(1)
    for _ in range(400):
        data = random.bytes(int(random.integers(0, 60)))
        try:
            samples = decoder.decode(data)
        except (UnreadableAudioError, UnsupportedAudioFormatError):
            continue
        assert np.isfinite(samples).all()
        assert len(samples) == decoder.count(data) * 3


def test_ffmpeg_is_loaded_only_where_opus_is_spoken() -> None:
    code = (
        "import sys; from services.shared.audio.codecs import *; "
        "make_decoder(AudioFormat(AudioEncoding.PCM16, 8000)); sys.exit('av' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
