"""The speech model as a Triton model: ids in, ids out."""

from services.shared.paths import TTS_FOLDER
from services.shared.serving.generation import GenerationRoom
from services.shared.triton.specs import STEP1_TTS


class SpeechRoom(GenerationRoom):
    """Step-Audio-TTS-3B."""

    spec = STEP1_TTS
    folder = TTS_FOLDER
