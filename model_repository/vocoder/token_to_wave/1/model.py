"""Entry of token_to_wave for Triton."""

from services.vocoder.serving.token_to_wave import TokenToWaveRoom as TritonPythonModel

__all__ = ["TritonPythonModel"]
