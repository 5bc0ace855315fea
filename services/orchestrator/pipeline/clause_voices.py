"""Which voice speaks a clause: the reply's own, or, where it is rapped or hummed, the speaker's recording of that kind.

    （RAP）…    a built-in speaker   ─> the entry "<speaker>RAP"      both through the vocoder for music
    （RAP）…    a cloned voice       ─> itself, there is no other

Source: the voices of the release (tts.py).
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from services.orchestrator.ports.rooms import PreparedVoice
from services.shared.prompt.speech.tags import is_music, voice_entry

FindVoice = Callable[[str], Awaitable[PreparedVoice]]


class ClauseVoices:
    """The voices of one reply.

    Args:
        voice: its own.
        find: gives another one by its id.
    """

    def __init__(self, voice: PreparedVoice, find: FindVoice) -> None:
        self._voice = voice
        self._find = find

    async def of(self, text: str) -> PreparedVoice:
        """The voice for a clause.

        Args:
            text: of the clause, its style tags in front.

        Raises:
            VoiceNotFoundError: the speaker has no recording of that kind.
            RoomUnavailableError, DeadlineExceededError: the recording cannot be prepared now.
        """
        if not is_music(text):
            return self._voice
        is_clone = not self._voice.speaker
        voice = self._voice if is_clone else await self._find(voice_entry(self._voice.voice_id, text))
        return replace(voice, sings=True)
