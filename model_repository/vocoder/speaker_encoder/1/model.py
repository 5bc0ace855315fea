"""Entry of speaker_encoder for Triton."""

from services.vocoder.serving.speaker_encoder import SpeakerEncoderRoom as TritonPythonModel

__all__ = ["TritonPythonModel"]
