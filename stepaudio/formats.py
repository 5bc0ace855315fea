"""Samples to bytes and back, and the user's audio in chunks that the API takes.

PCM16 and float32 samples are written and read here. mu-law and A-law pass as bytes that the caller has made; Opus is
not sent by this client, since its packets cannot be cut and counted as samples.
"""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protos.gen.stepaudio.v1 import audio_pb2
from services.shared.audio.pcm import as_mono
from services.shared.errors import InvalidOptionError, UnreadableAudioError, UnsupportedAudioFormatError

Samples = NDArray[np.float32]

_PCM16_SCALE: Final = 32768.0
SAMPLE_BYTES: Final = {
    audio_pb2.AUDIO_ENCODING_PCM16: 2,
    audio_pb2.AUDIO_ENCODING_FLOAT32: 4,
    audio_pb2.AUDIO_ENCODING_MULAW: 1,
    audio_pb2.AUDIO_ENCODING_ALAW: 1,
}
CHUNK_MS: Final = 40
"""Longest chunk sent: fine enough for a conversation, coarse enough to cost little."""
MIN_CHUNK_MS: Final = 10
"""Shortest chunk that the API takes, but for the last one of an utterance."""
MIN_RATE_HZ: Final = 8000
MAX_RATE_HZ: Final = 48000


def pcm16(sample_rate_hz: int) -> audio_pb2.AudioFormat:
    """The format of 16-bit samples at a rate.

    Raises:
        InvalidOptionError: the rate is outside 8000 to 48000 Hz.
    """
    if not MIN_RATE_HZ <= sample_rate_hz <= MAX_RATE_HZ:
        raise InvalidOptionError(f"a sample rate of {sample_rate_hz} Hz is outside {MIN_RATE_HZ} to {MAX_RATE_HZ}")
    return audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM16, sample_rate_hz=sample_rate_hz)


def sample_bytes(audio: audio_pb2.AudioFormat) -> int:
    """Bytes of one sample.

    Raises:
        UnsupportedAudioFormatError: a format without a fixed size, or none.
    """
    if audio.encoding not in SAMPLE_BYTES:
        name = audio_pb2.AudioEncoding.Name(audio.encoding)
        raise UnsupportedAudioFormatError(f"this client sends PCM16, float32, mu-law and A-law, not {name}")
    return SAMPLE_BYTES[audio.encoding]


def check_plain(audio: audio_pb2.AudioFormat) -> None:
    """Refuse formats whose samples this client does not read and write itself.

    Raises:
        UnsupportedAudioFormatError: neither PCM16 nor float32.
    """
    if audio.encoding not in (audio_pb2.AUDIO_ENCODING_PCM16, audio_pb2.AUDIO_ENCODING_FLOAT32):
        name = audio_pb2.AudioEncoding.Name(audio.encoding)
        raise UnsupportedAudioFormatError(f"samples are read and written as PCM16 or float32, not as {name}")


def encode(samples: ArrayLike, audio: audio_pb2.AudioFormat) -> bytes:
    """Write samples.

    Args:
        samples: [N] or [C, N] as `as_mono` takes them: floating point in [-1, 1] or signed integers.
        audio: PCM16 or float32.

    Raises:
        UnsupportedAudioFormatError: another format.
        AudioError: they are no audio, or not finite.
    """
    check_plain(audio)
    mono = as_mono(samples)
    if audio.encoding == audio_pb2.AUDIO_ENCODING_FLOAT32:
        return mono.astype("<f4").tobytes()
    return to_int16(mono).astype("<i2").tobytes()


def decode(data: bytes, audio: audio_pb2.AudioFormat) -> Samples:
    """Read [N] samples.

    Raises:
        UnsupportedAudioFormatError: neither PCM16 nor float32.
        UnreadableAudioError: not whole samples.
    """
    check_plain(audio)
    check_whole(data, audio)
    if audio.encoding == audio_pb2.AUDIO_ENCODING_FLOAT32:
        return np.frombuffer(data, "<f4").astype(np.float32, copy=False)
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(_PCM16_SCALE)


def to_int16(samples: Samples) -> NDArray[np.int16]:
    """Round [N] samples to 16 bit, exactly where they come from 16 bit; what lies outside is clipped."""
    scaled = np.clip(np.rint(samples * np.float32(_PCM16_SCALE)), -_PCM16_SCALE, _PCM16_SCALE - 1)
    rounded: NDArray[np.int16] = scaled.astype(np.int16)
    return rounded


def check_whole(data: bytes, audio: audio_pb2.AudioFormat) -> None:
    """Refuse bytes that are not whole samples.

    Raises:
        UnreadableAudioError: they are not.
        UnsupportedAudioFormatError: a format without a fixed size.
    """
    size = sample_bytes(audio)
    if len(data) % size:
        raise UnreadableAudioError(f"{len(data)} bytes are not whole samples of {size} bytes")


class Chunker:
    """Cuts audio of any length into chunks of 10 to 40 ms; holds back at most 10 ms.

    Args:
        audio: the format, with samples of a fixed size.
    """

    def __init__(self, audio: audio_pb2.AudioFormat) -> None:
        self.sample_bytes = sample_bytes(audio)
        self._longest = audio.sample_rate_hz * CHUNK_MS // 1000 * self.sample_bytes
        self._shortest = -(-audio.sample_rate_hz * MIN_CHUNK_MS // 1000) * self.sample_bytes
        self._held = b""
        self.position_samples = 0
        """Position of the next chunk's first sample."""

    def push(self, data: bytes) -> list[audio_pb2.AudioChunk]:
        """Take whole samples and give the chunks that are ready."""
        self._held += data
        return self._cut(self._shortest)

    def flush(self) -> list[audio_pb2.AudioChunk]:
        """Give all that is held back, as at the end of an utterance."""
        return self._cut(1)

    def _cut(self, least: int) -> list[audio_pb2.AudioChunk]:
        chunks, begin = [], 0
        while len(self._held) - begin >= least:
            data = self._held[begin : begin + self._longest]
            chunks.append(audio_pb2.AudioChunk(data=data, first_sample=self.position_samples))
            self.position_samples += len(data) // self.sample_bytes
            begin += len(data)
        self._held = self._held[begin:]
        return chunks
