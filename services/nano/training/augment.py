"""What happens to recorded speech on its way to a network: another speed, a room, a microphone, noise, a codec.

Decides: how strong and how often, after v0's recipe. The times of the phones follow, so labels stay exact.
Refuses to know: what is learned from it.
"""

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from services.nano.training.recorded import RATE_HZ, Clip

Samples = NDArray[np.float32]

_COMPRESSION: Final = (0.8, 0.97)
"""Of Opus in libsndfile's scale, where 1 is the smallest file: some 60 to 14 kbit/s."""


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """Samples of one length, and the moment of the clip that each moment of them shows.

    Attributes:
        samples: [N] float32 at 16 kHz.
        clip: what is heard.
        lead_s: seconds before the clip begins; negative where its beginning is cut off.
        speed: seconds of the clip a second.
    """

    samples: Samples
    clip: Clip
    lead_s: float
    speed: float

    def labels(self, count: int, step_s: float, first_s: float) -> NDArray[np.int64]:
        """Phone class of `count` moments, one every `step_s` from `first_s` on."""
        moments = first_s + step_s * np.arange(count)
        return self.clip.labels_at((moments - self.lead_s) * self.speed)


def hear(clip: Clip, length_samples: int, rng: np.random.Generator, *, clean: bool = False) -> Heard:
    """Bring a clip to a length: at a random place within it or it within silence, disturbed unless `clean`."""
    speed = 1.0 if clean or rng.random() > 0.6 else float(rng.uniform(0.92, 1.08))
    samples = clip.samples if speed == 1.0 else change_rate(clip.samples, speed)
    room = length_samples - len(samples)
    lead = int(rng.integers(0, room + 1)) if room >= 0 else -int(rng.integers(0, -room + 1))
    out = np.zeros(length_samples, np.float32)
    begin, end = max(lead, 0), min(lead + len(samples), length_samples)
    out[begin:end] = samples[begin - lead : end - lead]
    return Heard(out if clean else disturb(out, rng), clip, lead / RATE_HZ, speed)


def change_rate(samples: Samples, speed: float) -> Samples:
    """Play faster (above 1) or slower; pitch follows."""
    places = np.arange(int(len(samples) / speed)) * speed
    return np.interp(places, np.arange(len(samples)), samples).astype(np.float32)


def disturb(samples: Samples, rng: np.random.Generator) -> Samples:
    """A room (30 %), a tilted spectrum (40 %), noise of 8 to 40 dB (75 %), another loudness."""
    if rng.random() < 0.3:
        samples = _in_a_room(samples, rng)
    if rng.random() < 0.4:
        tilt = np.float32(rng.uniform(-0.6, 0.6))
        samples = samples + tilt * np.concatenate([samples[:1], samples[:-1]])
    if rng.random() < 0.75:
        samples = samples + _noise(samples, rng)
    peak = float(np.abs(samples).max()) or 1.0
    return (samples * np.float32(10 ** rng.uniform(-0.8, 0.0) / peak)).astype(np.float32)


def coded(samples: Samples, rng: np.random.Generator) -> Samples:
    """Through Opus and back, as most callers' speech comes."""
    file = io.BytesIO()
    level = float(rng.uniform(*_COMPRESSION))
    soundfile.write(file, samples, RATE_HZ, format="OGG", subtype="OPUS", compression_level=level)
    file.seek(0)
    back, _ = soundfile.read(file, dtype="float32")
    return np.pad(back[: len(samples)], (0, max(len(samples) - len(back), 0))).astype(np.float32)


def _in_a_room(samples: Samples, rng: np.random.Generator) -> Samples:
    """Reverberation: exponentially fading noise behind the direct sound."""
    fade_s = rng.uniform(0.03, 0.12)
    tail = np.arange(int(4 * fade_s * RATE_HZ))
    response = rng.standard_normal(len(tail)) * np.exp(-tail / (fade_s * RATE_HZ)) * rng.uniform(0.01, 0.05)
    response[0] = 1.0
    size = 1 << (len(samples) + len(response) - 1).bit_length()
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    return np.asarray(np.fft.irfft(spectrum, size)[: len(samples)], np.float32)


def _noise(samples: Samples, rng: np.random.Generator) -> Samples:
    """White or coloured noise of 8 to 40 dB below the signal."""
    noise = rng.standard_normal(len(samples)).astype(np.float32)
    if rng.random() < 0.5:
        spectrum = np.fft.rfft(noise)
        spectrum /= np.maximum(np.arange(len(spectrum)), 20.0) ** rng.uniform(0.3, 1.0)
        noise = np.asarray(np.fft.irfft(spectrum, len(samples)), np.float32)
    level = 10 ** (-rng.uniform(8, 40) / 20) * float(np.sqrt(np.mean(samples**2)) + 1e-6)
    return noise * np.float32(level / (float(np.sqrt(np.mean(noise**2))) + 1e-12))
