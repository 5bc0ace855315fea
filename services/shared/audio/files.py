"""Audio files in and out through libsndfile: wav, flac, mp3, ogg, at any rate and with any number of channels.

Decides when a file is no audio: unknown format, damaged stream, or shorter than its own header says. Does not resample.
"""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from services.shared.audio.pcm import as_mono
from services.shared.errors import AudioTooLongError, EmptyAudioError, NonFiniteAudioError, UnreadableAudioError

_RIFF_UNKNOWN_SIZE: Final = 0x7FFF_0000
"""Recorders that cannot seek back leave a size this large in the header: then the end of the file is the end."""
_COMPLETE_SHARE: Final = 0.99
"""Compressed streams may decode to a few samples less than announced; more missing than this is damage."""


_LARGEST_RATE_HZ: Final = 1_000_000
"""Samples a second of all channels together, of a file that is not trusted."""


@dataclass(frozen=True, slots=True)
class Audio:
    """One channel of sound.

    Attributes:
        samples: [N] float32 in [-1, 1].
        sample_rate_hz: as the file says.
    """

    samples: NDArray[np.float32]
    sample_rate_hz: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz


def read_audio(path: str | Path) -> Audio:
    """Read a whole file as one channel (the mean of all).

    Raises:
        UnreadableAudioError: absent, not audio, damaged, or shorter than its header says.
        EmptyAudioError: a sound file without a single sample.
        NonFiniteAudioError: a floating-point file that holds NaN or infinity.
    """
    path = Path(path)
    if not path.is_file():
        raise UnreadableAudioError(f"{path} is not a file; correct the path")
    with path.open("rb") as file:
        return _read(file, str(path), longest_s=None)


def decode_audio(data: bytes, name: str, *, longest_s: float) -> Audio:
    """Decode a whole file that is in memory, as one channel (the mean of all).

    Args:
        data: the file.
        name: what it is called in messages.
        longest_s: of a longer file no more is decoded than is needed to refuse it: a small file may hold hours.

    Raises:
        UnreadableAudioError, EmptyAudioError, NonFiniteAudioError: as `read_audio`.
        AudioTooLongError: it is longer.
    """
    return _read(io.BytesIO(data), name, longest_s=longest_s)


def _read(source: BinaryIO, name: str, *, longest_s: float | None) -> Audio:
    if _is_cut_wav(source):
        raise UnreadableAudioError(f"{name} is truncated: its header announces more bytes than it has; send it again")
    try:
        with sf.SoundFile(source) as file:
            announced, rate_hz = file.frames, int(file.samplerate)
            most = -1 if longest_s is None else int(longest_s * rate_hz)
            if longest_s is not None and (announced > most or rate_hz * file.channels > _LARGEST_RATE_HZ):
                raise AudioTooLongError(f"{name} is longer than {longest_s:g} s", limit=f"{longest_s:g} s")
            frames = file.read(most, dtype="float32", always_2d=True)  # [N, C]
    except (sf.SoundFileError, RuntimeError) as error:
        raise UnreadableAudioError(f"{name} is not readable as wav, flac, mp3 or ogg ({error})") from error
    if len(frames) < announced * _COMPLETE_SHARE:
        raise UnreadableAudioError(f"{name} is truncated: {len(frames)} of {announced} samples decode; send it again")
    try:
        return Audio(as_mono(frames.T), rate_hz)
    except (EmptyAudioError, NonFiniteAudioError) as error:
        raise type(error)(f"{name}: {error}") from error


def write_wav(path: str | Path, samples: NDArray[np.float32], sample_rate_hz: int) -> None:
    """Write [N] samples as 16-bit PCM; what lies outside [-1, 1] is clipped.

    Raises:
        UnreadableAudioError: the path cannot be written.
    """
    try:
        sf.write(path, np.clip(samples, -1.0, 1.0), sample_rate_hz, subtype="PCM_16", format="WAV")
    except (sf.SoundFileError, OSError) as error:
        raise UnreadableAudioError(f"{path} cannot be written ({error})") from error


def _is_cut_wav(file: BinaryIO) -> bool:
    """Whether a RIFF file is shorter than its header announces (libsndfile reads such a file without complaint)."""
    head = file.read(8)
    available = file.seek(0, os.SEEK_END)
    file.seek(0)
    if len(head) < 8 or head[:4] != b"RIFF":
        return False
    announced = int.from_bytes(head[4:], "little")
    missing = announced + 8 - available
    return missing > 1 and announced < _RIFF_UNKNOWN_SIZE  # one byte: a writer that counts the pad byte it left out
