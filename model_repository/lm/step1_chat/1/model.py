"""Entry of step1_chat for Triton."""

from services.lm.serving.step1_chat import ChatRoom as TritonPythonModel

__all__ = ["TritonPythonModel"]
