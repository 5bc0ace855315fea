"""Entry of speech_tokenizer for Triton."""

from services.tokenizer.serving.speech_tokenizer import SpeechTokenizerRoom as TritonPythonModel

__all__ = ["TritonPythonModel"]
