"""Opus without a container: one packet a chunk, by libopus inside PyAV.

Decoding always gives 48 kHz, Opus's own rate, of which every rate that a stream may name is a whole fraction: who needs
another rate resamples once, from there. A packet's length is read from its first bytes (RFC 6716, section 3.1), so that
what is no packet is refused before a decoder sees it.

    encoder   |--packet 0--|--packet 1--|          samples in
    decoder   |#|-packet 0-|--packet 1--|          samples out, later by the pre-skip (#)
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import av
import numpy as np

from services.shared.audio.codecs import OPUS_PACKETS_MS
from services.shared.audio.pcm import Samples
from services.shared.errors import UnreadableAudioError, UnsupportedAudioFormatError

OPUS_RATE_HZ: Final = 48_000
_WIDE_BAND_HZ: Final = 24_000
_NARROW_BITS_PER_S: Final = 24_000
_WIDE_BITS_PER_S: Final = 32_000
_EFFORT: Final = 5
"""Of 10; the rest costs twice the time and is not heard in speech."""
_FULL_SCALE: Final = np.float32(32_768.0)


class OpusDecoder:
    """Decodes the packets of one stream.

    Args:
        format_rate_hz: the rate in which the stream counts.
    """

    sample_rate_hz: Final = OPUS_RATE_HZ

    def __init__(self, format_rate_hz: int) -> None:
        self._format_rate_hz = format_rate_hz
        self._context = av.AudioCodecContext.create("libopus", "r")
        self._context.layout = "mono"
        self._context.sample_rate = OPUS_RATE_HZ
        self._context.thread_count = 1

    def count(self, data: bytes) -> int:
        """Samples of a packet at the stream's rate. Raises UnsupportedAudioFormatError, UnreadableAudioError."""
        length_s = packet_s(data)
        if length_s * 1000 not in OPUS_PACKETS_MS:
            raise UnsupportedAudioFormatError(
                f"a chunk of Opus is one packet of 10, 20, 40 or 60 ms, not {float(length_s) * 1000:g} ms",
                field="audio.data",
                value=f"{float(length_s) * 1000:g} ms",
            )
        return int(length_s * self._format_rate_hz)

    def decode(self, data: bytes) -> Samples:
        """Give the samples of a packet at 48 kHz. Raises as `count`."""
        wanted = self.count(data) * OPUS_RATE_HZ // self._format_rate_hz
        try:
            frames = self._context.decode(av.Packet(data))
        except av.error.FFmpegError as error:
            raise UnreadableAudioError("the Opus packet is damaged", field="audio.data") from error
        pieces = [frame.to_ndarray().reshape(-1) for frame in frames]
        if sum(len(piece) for piece in pieces) != wanted:
            raise UnreadableAudioError("the Opus packet is damaged", field="audio.data")
        samples: Samples = np.concatenate(pieces).astype(np.float32) / _FULL_SCALE
        return samples


class OpusEncoder:
    """Encodes one stream for speech.

    Args:
        sample_rate_hz: 8000, 12000, 16000, 24000 or 48000.
        packet_ms: length of each packet.

    Attributes:
        preskip_samples: how much later the decoder's output is, in samples of this rate.
        packet_samples: length of a packet.

    Raises:
        UnsupportedAudioFormatError: Opus has no packets of this length.
    """

    def __init__(self, sample_rate_hz: int, packet_ms: int) -> None:
        if packet_ms not in OPUS_PACKETS_MS:
            raise UnsupportedAudioFormatError(
                f"packets of Opus are 10, 20, 40 or 60 ms long, not {packet_ms} ms", value=str(packet_ms)
            )
        context = av.AudioCodecContext.create("libopus", "w")
        context.sample_rate = sample_rate_hz
        context.layout = "mono"
        context.format = "flt"
        context.thread_count = 1
        context.bit_rate = _WIDE_BITS_PER_S if sample_rate_hz >= _WIDE_BAND_HZ else _NARROW_BITS_PER_S
        context.options = {
            "application": "voip",
            "frame_duration": str(packet_ms),
            "compression_level": str(_EFFORT),
        }
        context.open()
        self._context = context
        self._time_base = Fraction(1, sample_rate_hz)
        self._written = 0
        self._sample_rate_hz = sample_rate_hz
        self.packet_samples = sample_rate_hz * packet_ms // 1000
        header = bytes(context.extradata or b"")  # OpusHead, RFC 7845: the pre-skip stands at byte 10, at 48 kHz
        self.preskip_samples = int.from_bytes(header[10:12], "little") * sample_rate_hz // OPUS_RATE_HZ

    def encode(self, samples: Samples) -> bytes:
        """Write exactly one packet's samples."""
        if len(samples) != self.packet_samples:
            raise ValueError(f"a packet has {self.packet_samples} samples, not {len(samples)}")
        clipped = np.ascontiguousarray(np.clip(samples, -1.0, 1.0), np.float32)
        frame = av.AudioFrame.from_ndarray(clipped[None, :], format="flt", layout="mono")
        frame.sample_rate = self._sample_rate_hz
        frame.time_base = self._time_base
        frame.pts = self._written
        self._written += len(samples)
        return b"".join(bytes(packet) for packet in self._context.encode(frame))

    def encode_all(self, chunks: Sequence[Samples]) -> list[bytes]:
        """Write packets, one after the other."""
        return [self.encode(samples) for samples in chunks]


def packet_s(data: bytes) -> Fraction:
    """Length of a packet by its table-of-contents byte.

    Raises:
        UnreadableAudioError: there is no packet, or one without frames or without its count of frames.
    """
    code = data[0] & 3 if data else 3
    if code == 3 and len(data) < 2:
        raise UnreadableAudioError("the chunk holds no Opus packet", field="audio.data", value=f"{len(data)} bytes")
    config = data[0] >> 3
    if config < 12:
        frame_ms = Fraction((10, 20, 40, 60)[config & 3])  # SILK
    elif config < 16:
        frame_ms = Fraction((10, 20)[config & 1])  # hybrid
    else:
        frame_ms = Fraction((5, 10, 20, 40)[config & 3], 2)  # CELT
    frames = data[1] & 63 if code == 3 else (1, 2, 2)[code]
    if not frames:
        raise UnreadableAudioError("the Opus packet has no frames", field="audio.data")
    return frame_ms * frames / 1000
