"""Who can speak: the voices of the checkpoint's speakers folder, and those added from a clip."""

from services.shared.voices.registry import MAX_CLIP_S, MIN_CLIP_S, Voice, VoiceRegistry, checked_clip

__all__ = ["MAX_CLIP_S", "MIN_CLIP_S", "Voice", "VoiceRegistry", "checked_clip"]
