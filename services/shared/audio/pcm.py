"""Plain samples: to mono, peak normalisation, trimming of silence.

Decides what may enter a room as audio (finite numbers, at least one of them). Knows no files and no sample rate but the
16 kHz of the trimming rule. Source: preprocessing of the released tokenizer.py and utils.py.
"""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from services.shared.errors import AudioError, EmptyAudioError, NonFiniteAudioError

Samples = NDArray[np.float32]

_PEAK_FLOOR: Final = 0.01
_PEAK_TARGET: Final = 0.999

_TRIM_TOP_DB: Final = 20.0
_TRIM_FRAME_SAMPLES: Final = 512
_TRIM_HOP_SAMPLES: Final = 128
_TRIM_UNIT_SAMPLES: Final = 240
_TRIM_LEAD_SAMPLES: Final = 800
"""50 ms kept before the first loud frame."""
_TRIM_PAD_SAMPLES: Final = 4320
"""50 ms before and 220 ms after the loud part."""
_POWER_FLOOR: Final = 1e-10


def as_mono(samples: ArrayLike) -> Samples:
    """Bring samples to one float32 channel, the mean of all channels.

    Args:
        samples: [N] or [C, N], numpy or a CPU torch tensor; floating point in [-1, 1], or signed integer PCM, which is
            divided by the full scale of its type.

    Returns:
        [N] float32, contiguous, the caller's array left as it is.

    Raises:
        EmptyAudioError: no sample.
        NonFiniteAudioError: NaN or infinity among the samples.
        AudioError: another number of dimensions, or numbers that are no PCM (unsigned, complex, text).
    """
    array = np.asarray(samples)
    if array.ndim not in (1, 2):
        raise AudioError(f"audio must be [samples] or [channels, samples], not of shape {array.shape}")
    if array.size == 0:
        raise EmptyAudioError("the audio has no samples")
    if array.dtype.kind == "i":
        array = array.astype(np.float32) / np.float32(-float(np.iinfo(array.dtype).min))
    elif array.dtype.kind != "f":
        raise AudioError(f"audio must be floating point or signed integer PCM, not {array.dtype}")
    mono = array.astype(np.float32) if array.ndim == 1 else array.mean(axis=0, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise NonFiniteAudioError("the audio holds NaN or infinite samples")
    return np.ascontiguousarray(mono)


def normalize_energy(samples: Samples) -> Samples:
    """Scale [N] samples to a peak of 0.999; a peak below 0.01 counts as 0.01, so that noise is not blown up.

    Source: `energy_norm_fn` of the release.
    """
    peak = np.float32(np.abs(samples).max(initial=0.0))
    return samples / max(peak, np.float32(_PEAK_FLOOR)) * np.float32(_PEAK_TARGET)


def trim_silence(samples_16k: Samples) -> Samples:
    """Cut to the loud part and lay fixed margins around it.

        ....|<- 50 ms ->|<-- loud part, up to a multiple of 15 ms -->|<- 220 ms ->|....

    Loud is every frame within 20 dB of the loudest (centred frames of 32 ms every 8 ms); samples that a margin lacks
    are zeros. Silence has no quiet part and is kept whole.

    Args:
        samples_16k: [N] at 16 kHz.

    Returns:
        [M], M = 240 * ceil(loud / 240) + 4320.

    Source: `trim_silence` of the release, which takes the loud part from librosa.effects.trim.
    """
    begin, end = _loud_span(samples_16k)
    units = -(-(end - begin) // _TRIM_UNIT_SAMPLES)
    length = units * _TRIM_UNIT_SAMPLES + _TRIM_PAD_SAMPLES
    lead = begin - _TRIM_LEAD_SAMPLES
    kept = samples_16k[max(lead, 0) :]
    kept = np.pad(kept, (max(-lead, 0), 0))[:length]
    return np.pad(kept, (0, length - len(kept)))


def _loud_span(samples: Samples) -> tuple[int, int]:
    """First and last-plus-one sample of the frames within 20 dB of the loudest."""
    padded = np.pad(samples, _TRIM_FRAME_SAMPLES // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _TRIM_FRAME_SAMPLES)[::_TRIM_HOP_SAMPLES]
    power = np.einsum("tn,tn->t", frames, frames, dtype=np.float64) / _TRIM_FRAME_SAMPLES
    level_db = 10.0 * np.log10(np.maximum(power, _POWER_FLOOR))
    loud = np.flatnonzero(level_db > level_db.max() - _TRIM_TOP_DB)
    return int(loud[0]) * _TRIM_HOP_SAMPLES, min(len(samples), (int(loud[-1]) + 1) * _TRIM_HOP_SAMPLES)
