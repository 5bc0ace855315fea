"""Everything that stands in front of the speech model's first token: system prompts, tags, and the layout of ids."""

from services.shared.prompt.speech.layout import PromptTokenizer, VoicePrompt, build_prompt
from services.shared.prompt.speech.system_prompts import HUMMING_PROMPT, NARRATOR_PROMPT, RAP_PROMPT, SPEAKER_PROMPT
from services.shared.prompt.speech.tags import MUSIC_TAGS, is_music, leading_tag, leading_tags, speakable, voice_entry

__all__ = [
    "HUMMING_PROMPT",
    "MUSIC_TAGS",
    "NARRATOR_PROMPT",
    "RAP_PROMPT",
    "SPEAKER_PROMPT",
    "PromptTokenizer",
    "VoicePrompt",
    "build_prompt",
    "is_music",
    "leading_tag",
    "leading_tags",
    "speakable",
    "voice_entry",
]
