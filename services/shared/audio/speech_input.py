"""A recording as the speech tokenizer hears it, wherever it comes from. Source: tokenizer.py of the release."""

from typing import Final

from numpy.typing import ArrayLike

from services.shared.audio.pcm import Samples, as_mono, normalize_energy, trim_silence
from services.shared.audio.resample import resample

HEARD_RATE_HZ: Final = 16_000


def prepare(samples: ArrayLike, sample_rate_hz: int, *, trim: bool) -> Samples:
    """One channel, 16 kHz, peak normalised, trimmed if asked (the release trims voice prompts, not chat), [N] float32.

    Raises:
        EmptyAudioError, NonFiniteAudioError, AudioError, InvalidOptionError.
    """
    normalized = normalize_energy(resample(as_mono(samples), sample_rate_hz, HEARD_RATE_HZ))
    return trim_silence(normalized) if trim else normalized
