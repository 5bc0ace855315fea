"""What a voice's clip tells the flow: its mel at the vocoder's rate, and its speaker's embedding."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from services.shared.audio.pcm import as_mono
from services.shared.audio.resample import resample
from services.shared.errors import EmptyAudioError
from services.shared.nn.features import FBANK_RATE_HZ, PROMPT_MEL_RATE_HZ, mel_spectrogram_22k
from services.vocoder.speaker.embedding import SpeakerEncoder
from services.vocoder.voice import ArrayLike

_MIN_SAMPLES: Final = 1024
"""One analysis window of the mel."""


def analyse_clip(
    speaker: SpeakerEncoder, samples: ArrayLike, sample_rate_hz: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Analyse a clip.

    Args:
        speaker: the folder's network.
        samples: [N] or [C, N] at any rate, neither trimmed nor normalised.
        sample_rate_hz: their rate.

    Returns:
        (log-mel [1, M, 80], embedding [S]).

    Raises:
        EmptyAudioError, NonFiniteAudioError, AudioError: the clip cannot be used.
        InvalidOptionError: the rate is not positive.
    """
    mono = as_mono(np.asarray(samples))
    for_mel = resample(mono, sample_rate_hz, PROMPT_MEL_RATE_HZ)
    if len(for_mel) < _MIN_SAMPLES:
        raise EmptyAudioError(f"a voice's clip needs at least 47 ms of audio, not {len(mono)} samples")
    embedding = speaker.embed(resample(mono, sample_rate_hz, FBANK_RATE_HZ))
    return mel_spectrogram_22k(torch.from_numpy(for_mel)).numpy(), embedding
