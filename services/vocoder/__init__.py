"""The vocoder room: speech tokens -> wave. Its doors: `load_vocoder`, `VoiceFeatures`.

config.py    cosyvoice.yaml as data          noise.py      noise by seed and frame
flow/        tokens -> log-mel               hift/         log-mel -> wave
speaker/     clip -> embedding               voice.py      a voice as the flow reads it
streaming.py tokens in groups -> chunks      vocoder.py    all of it together
"""

from services.vocoder.streaming import StreamSettings, StreamState
from services.vocoder.vocoder import Vocoder, load_vocoder
from services.vocoder.voice import VoiceFeatures

__all__ = [
    "StreamSettings",
    "StreamState",
    "Vocoder",
    "VoiceFeatures",
    "load_vocoder",
]
