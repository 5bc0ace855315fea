"""Samples as the bytes of a stream and back: PCM16, float32, G.711 mu-law and A-law, Opus.

Decides what counts as damaged: bytes that are no whole samples, none at all, NaN or infinity, a broken packet. Knows no
message, no position and no rate but the one a format names; resampling is not its business.

G.711 goes through tables. Its values are on the 16-bit scale, where the standard's 14-bit (mu-law) and 13-bit (A-law)
numbers stand in the upper bits; a negative sample is measured by its one's complement, as in the ITU's own software.

Source: ITU-T G.711, tables 1 and 2; G.191 for the negative side of the decision values.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from services.shared.audio.pcm import Samples
from services.shared.errors import NonFiniteAudioError, UnreadableAudioError, UnsupportedAudioFormatError

MIN_RATE_HZ: Final = 8000
MAX_RATE_HZ: Final = 48_000
OPUS_RATES_HZ: Final = (8000, 12_000, 16_000, 24_000, 48_000)
OPUS_PACKETS_MS: Final = (10, 20, 40, 60)
_FULL_SCALE: Final = np.float32(32_768.0)
_UNIT: Final = np.float32(1 / 32_768)
_PCM16: Final = np.dtype("<i2")


class AudioEncoding(StrEnum):
    """How samples are written as bytes."""

    PCM16 = "pcm16"
    FLOAT32 = "float32"
    MULAW = "mulaw"
    ALAW = "alaw"
    OPUS = "opus"


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """The format of a stream of one channel.

    Raises:
        UnsupportedAudioFormatError: a rate that is not taken.
    """

    encoding: AudioEncoding
    sample_rate_hz: int

    def __post_init__(self) -> None:
        rate_hz = self.sample_rate_hz
        if self.encoding is AudioEncoding.OPUS and rate_hz not in OPUS_RATES_HZ:
            allowed = ", ".join(str(rate) for rate in OPUS_RATES_HZ)
        elif not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            allowed = f"{MIN_RATE_HZ} to {MAX_RATE_HZ}"
        else:
            return
        raise UnsupportedAudioFormatError(
            f"{self.encoding.value} audio has {allowed} samples per second, not {rate_hz}",
            field="sample_rate_hz",
            value=str(rate_hz),
            limit=allowed,
        )


class AudioDecoder(Protocol):
    """Decodes one stream, chunk after chunk."""

    @property
    def sample_rate_hz(self) -> int:
        """Of the samples it gives: the format's, but for Opus always 48000."""

    def count(self, data: bytes) -> int:
        """How many samples of the format's own rate a chunk holds, without decoding it.

        Raises:
            UnreadableAudioError: no sample, or no whole ones; no packet.
            UnsupportedAudioFormatError: an Opus packet of another length than 10, 20, 40 or 60 ms.
        """

    def decode(self, data: bytes) -> Samples:
        """Give the samples of a chunk that `count` accepts, [N] float32 within -1..1.

        Raises:
            UnreadableAudioError: a damaged packet; the stream may go on with the next one.
            NonFiniteAudioError: NaN or infinity.
        """


class AudioEncoder(Protocol):
    """Encodes one stream, chunk after chunk."""

    @property
    def preskip_samples(self) -> int:
        """Samples that a decoder gives before the first one encoded; 0 but for Opus."""

    def encode(self, samples: Samples) -> bytes:
        """Write [N] float32; what lies outside -1..1 is clipped. Opus: N is one packet's length."""

    def encode_all(self, chunks: Sequence[Samples]) -> list[bytes]:
        """Write each of some chunks that follow one another: the same as `encode` of one after the other."""


def make_decoder(format_: AudioFormat) -> AudioDecoder:
    """A decoder for one stream."""
    if format_.encoding is AudioEncoding.OPUS:
        from services.shared.audio.opus import OpusDecoder  # FFmpeg's libraries are loaded where Opus is spoken

        return OpusDecoder(format_.sample_rate_hz)
    return _SampleDecoder(format_)


def make_encoder(format_: AudioFormat, *, packet_ms: int = 20) -> AudioEncoder:
    """An encoder for one stream.

    Args:
        format_: of the bytes.
        packet_ms: length of an Opus packet, 10, 20, 40 or 60 ms; of no meaning to others.

    Raises:
        UnsupportedAudioFormatError: Opus has no packets of this length.
    """
    if format_.encoding is AudioEncoding.OPUS:
        from services.shared.audio.opus import OpusEncoder  # as above

        return OpusEncoder(format_.sample_rate_hz, packet_ms)
    return _SampleEncoder(format_.encoding)


class _SampleDecoder:
    """Formats in which every sample has its own bytes; there is no state."""

    def __init__(self, format_: AudioFormat) -> None:
        self.sample_rate_hz = format_.sample_rate_hz
        self._encoding = format_.encoding
        self._sample_bytes = {AudioEncoding.PCM16: 2, AudioEncoding.FLOAT32: 4}.get(format_.encoding, 1)

    def count(self, data: bytes) -> int:
        """Whole samples in a chunk. Raises UnreadableAudioError for what is not whole."""
        count, rest = divmod(len(data), self._sample_bytes)
        if rest or not count:
            raise UnreadableAudioError(
                f"{len(data)} bytes are no whole samples of {self._encoding.value}, {self._sample_bytes} bytes each",
                field="audio.data",
                value=f"{len(data)} bytes",
            )
        return count

    def decode(self, data: bytes) -> Samples:
        """Give the samples of a chunk. Raises UnreadableAudioError, NonFiniteAudioError."""
        self.count(data)
        if self._encoding is AudioEncoding.PCM16:
            return np.frombuffer(data, _PCM16) * _UNIT
        if self._encoding is AudioEncoding.FLOAT32:
            samples = np.frombuffer(data, "<f4")
            if not np.isfinite(samples).all():
                raise NonFiniteAudioError("the audio holds NaN or infinite samples", field="audio.data")
            return np.clip(samples, np.float32(-1.0), np.float32(1.0)).astype(np.float32, copy=False)
        return _g711_values(self._encoding)[np.frombuffer(data, np.uint8)]


class _SampleEncoder:
    """The way back."""

    preskip_samples: Final = 0

    def __init__(self, encoding: AudioEncoding) -> None:
        self._encoding = encoding

    def encode(self, samples: Samples) -> bytes:
        """Write samples."""
        return self._write(samples).tobytes()

    def encode_all(self, chunks: Sequence[Samples]) -> list[bytes]:
        """Write chunks, all in one go: a call of numpy's costs as much as a chunk's arithmetic."""
        if not chunks:
            return []
        written = self._write(np.concatenate(chunks))
        edges = itertools.accumulate(map(len, chunks), initial=0)
        return [written[begin:end].tobytes() for begin, end in itertools.pairwise(edges)]

    def _write(self, samples: Samples) -> NDArray[Any]:  # of the encoding's own kind of number
        if self._encoding is AudioEncoding.FLOAT32:
            return np.clip(samples, -1.0, 1.0).astype("<f4")
        linear: NDArray[np.int16] = np.clip(np.rint(samples * _FULL_SCALE), -32_768, 32_767).astype("<i2")
        if self._encoding is AudioEncoding.PCM16:
            return linear
        return _g711_codes(self._encoding)[linear.view(np.uint16)]


@cache
def _g711_values(encoding: AudioEncoding) -> Samples:
    """[256] the sample of each code."""
    if encoding is AudioEncoding.MULAW:
        code = ~np.arange(256) & 0xFF
        segment, step = code >> 4 & 7, code & 15
        magnitude = ((2 * step + 33 << segment) - 33) * 4
        negative = code & 0x80 != 0
    else:
        code = np.arange(256) ^ 0x55
        segment, step = code >> 4 & 7, code & 15
        magnitude = np.where(segment == 0, 2 * step + 1, 2 * step + 33 << np.maximum(segment - 1, 0)) * 8
        negative = code & 0x80 == 0
    return np.where(negative, -magnitude, magnitude).astype(np.float32) / _FULL_SCALE


@cache
def _g711_codes(encoding: AudioEncoding) -> NDArray[np.uint8]:
    """[65536] the code of each 16-bit sample, by its bits taken as unsigned."""
    linear = np.arange(65_536, dtype=np.uint16).view(np.int16).astype(np.int64)
    magnitude = np.where(linear < 0, ~linear, linear)
    segment, step = np.divmod(np.arange(128), 16)
    if encoding is AudioEncoding.MULAW:
        decisions = ((2 * step + 32 << segment) - 33) * 4
        positive, negative, flip = 0x00, 0x80, 0xFF
    else:
        decisions = np.where(segment == 0, 2 * step, 2 * step + 32 << np.maximum(segment - 1, 0)) * 8
        positive, negative, flip = 0x80, 0x00, 0x55
    level = np.searchsorted(decisions, magnitude, side="right") - 1
    codes: NDArray[np.uint8] = ((level | np.where(linear < 0, negative, positive)) ^ flip).astype(np.uint8)
    return codes
