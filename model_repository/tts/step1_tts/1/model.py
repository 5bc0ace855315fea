"""Entry of step1_tts for Triton."""

from services.tts.serving.step1_tts import SpeechRoom as TritonPythonModel

__all__ = ["TritonPythonModel"]
