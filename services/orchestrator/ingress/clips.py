"""Whole recordings of messages: a file that names its format, or raw samples with one; decoded off the event loop.

A small file may hold hours: a compressed one is read no further than the longest recording that is taken, and refused
by its length before its samples are kept.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

import numpy as np

from protos.gen.stepaudio.v1 import audio_pb2
from services.orchestrator.ingress.formats import read_format
from services.orchestrator.ingress.limits import refusal
from services.shared.audio.codecs import AudioEncoding, make_decoder
from services.shared.audio.files import Audio, decode_audio
from services.shared.errors import (
    AudioTooLongError,
    EmptyAudioError,
    MessageTooLargeError,
    UnreadableAudioError,
    UnsupportedAudioFormatError,
)

MAX_CLIP_BYTES: Final = 3_670_016
"""3.5 MiB."""
MIN_RATE_HZ: Final = 8000
MAX_RATE_HZ: Final = 192_000
_SILENT_PEAK: Final = 1e-3


@dataclass(frozen=True, slots=True)
class ClipLength:
    """How long a recording may be."""

    least_s: float
    most_s: float


async def read_clip(clip: audio_pb2.AudioClip, field: str, length: ClipLength) -> Audio:
    """Decode a recording.

    Args:
        clip: what came.
        field: its path, for the errors.
        length: that is taken.

    Raises:
        MessageTooLargeError: more bytes than a recording may have.
        UnreadableAudioError, UnsupportedAudioFormatError, NonFiniteAudioError: the bytes are no such recording.
        EmptyAudioError: too short, or silent.
        AudioTooLongError: as it says.
    """
    if len(clip.data) > MAX_CLIP_BYTES:
        limit = f"at most {MAX_CLIP_BYTES} bytes"
        raise refusal(MessageTooLargeError, f"{field}.data", f"{len(clip.data)} bytes", limit)
    if not clip.data:
        raise refusal(EmptyAudioError, f"{field}.data", "empty", "a recording")
    return await asyncio.to_thread(_checked, clip, field, length)


def _checked(clip: audio_pb2.AudioClip, field: str, length: ClipLength) -> Audio:
    audio = _raw(clip, field) if clip.HasField("format") else decode_audio(clip.data, field, longest_s=length.most_s)
    if not MIN_RATE_HZ <= audio.sample_rate_hz <= MAX_RATE_HZ:
        value, limit = f"of {audio.sample_rate_hz} Hz", f"{MIN_RATE_HZ} to {MAX_RATE_HZ} Hz"
        raise refusal(UnreadableAudioError, field, value, limit)
    limit = f"{length.least_s:g} to {length.most_s:g} s"
    if audio.duration_s < length.least_s:
        raise refusal(EmptyAudioError, field, f"{audio.duration_s:.2f} s", limit)
    if audio.duration_s > length.most_s:
        raise refusal(AudioTooLongError, field, f"{audio.duration_s:.1f} s", limit)
    if float(np.abs(audio.samples).max()) < _SILENT_PEAK:
        raise refusal(EmptyAudioError, field, "silent", "speech")
    return audio


def _raw(clip: audio_pb2.AudioClip, field: str) -> Audio:
    format_ = read_format(clip.format, f"{field}.format")
    if format_.encoding is AudioEncoding.OPUS:
        value, limit = "opus", "raw samples, or an Ogg file without a format"
        raise refusal(UnsupportedAudioFormatError, f"{field}.format.encoding", value, limit)
    return Audio(make_decoder(format_).decode(clip.data), format_.sample_rate_hz)
