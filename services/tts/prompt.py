"""The speech model's prompt. Callers of the room write it, so it lives on the ground floor."""

from services.shared.prompt.speech import VoicePrompt, build_prompt

__all__ = ["VoicePrompt", "build_prompt"]
