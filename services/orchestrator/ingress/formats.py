"""Audio formats of messages as the codecs and the store know them, and back."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from protos.gen.stepaudio.v1 import audio_pb2
from services.orchestrator.ports.store import StreamFormats
from services.shared.audio.codecs import AudioEncoding, AudioFormat
from services.shared.errors import UnsupportedAudioFormatError

_ENCODINGS: Final[Mapping[int, AudioEncoding]] = MappingProxyType(
    {
        audio_pb2.AUDIO_ENCODING_PCM16: AudioEncoding.PCM16,
        audio_pb2.AUDIO_ENCODING_FLOAT32: AudioEncoding.FLOAT32,
        audio_pb2.AUDIO_ENCODING_MULAW: AudioEncoding.MULAW,
        audio_pb2.AUDIO_ENCODING_ALAW: AudioEncoding.ALAW,
        audio_pb2.AUDIO_ENCODING_OPUS: AudioEncoding.OPUS,
    }
)
_NUMBERS: Final[Mapping[AudioEncoding, audio_pb2.AudioEncoding.ValueType]] = MappingProxyType(
    {encoding: audio_pb2.AudioEncoding.ValueType(number) for number, encoding in _ENCODINGS.items()}
)
ENCODING_NUMBERS: Final = tuple(_NUMBERS.values())
"""All that are taken and given."""


def read_format(message: audio_pb2.AudioFormat, field: str) -> AudioFormat:
    """Read a format that a client asks for.

    Args:
        message: what came; one that was not set has no encoding.
        field: its path, for the error.

    Raises:
        UnsupportedAudioFormatError: no encoding, an unknown one, or a rate that it does not have.
    """
    encoding = _ENCODINGS.get(message.encoding)
    if encoding is None:
        raise UnsupportedAudioFormatError(
            f"{field} needs an encoding and a sample rate that this server takes",
            field=f"{field}.encoding",
            value=str(message.encoding),
            limit=", ".join(known.value for known in _NUMBERS),
        )
    try:
        return AudioFormat(encoding, message.sample_rate_hz)
    except UnsupportedAudioFormatError as error:
        details = error.details | {"field": f"{field}.sample_rate_hz"}
        raise UnsupportedAudioFormatError(f"{field}: {error}", **details) from error


def format_message(format_: AudioFormat) -> audio_pb2.AudioFormat:
    """Write a format."""
    return audio_pb2.AudioFormat(encoding=_NUMBERS[format_.encoding], sample_rate_hz=format_.sample_rate_hz)


def stream_formats(user: AudioFormat, reply: AudioFormat, reply_chunk_ms: int) -> StreamFormats:
    """Both directions as the store keeps them."""
    return StreamFormats(
        input_encoding=user.encoding.value,
        input_rate_hz=user.sample_rate_hz,
        reply_encoding=reply.encoding.value,
        reply_rate_hz=reply.sample_rate_hz,
        reply_chunk_ms=reply_chunk_ms,
    )


def input_format(formats: StreamFormats) -> AudioFormat:
    """The user's."""
    return AudioFormat(AudioEncoding(formats.input_encoding), formats.input_rate_hz)


def reply_format(formats: StreamFormats) -> AudioFormat:
    """The replies'."""
    return AudioFormat(AudioEncoding(formats.reply_encoding), formats.reply_rate_hz)
