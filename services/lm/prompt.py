"""The chat model's prompts. Callers of the room write them, so they live on the ground floor."""

from services.shared.prompt.chat import Message, SpeechContent, build_asr_prompt, build_chat_prompt

__all__ = ["Message", "SpeechContent", "build_asr_prompt", "build_chat_prompt"]
