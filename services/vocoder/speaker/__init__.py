"""The speaker room's door: `load_speaker`."""

from services.vocoder.speaker.embedding import SpeakerEncoder, load_speaker

__all__ = ["SpeakerEncoder", "load_speaker"]
