"""The speaker room's door: `load_speaker`."""

from services.vocoder.speaker.clip import analyse_clip
from services.vocoder.speaker.embedding import SpeakerEncoder, load_speaker

__all__ = ["SpeakerEncoder", "analyse_clip", "load_speaker"]
