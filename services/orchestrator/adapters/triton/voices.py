"""Voices: a clip to what the speech model and the vocoder must know of it, and the checkpoint's own voices.

    clip ──┬── one channel, 16 kHz, trimmed ── speech_tokenizer ──> tokens
           └── one channel, as recorded ────── speaker_encoder ───> mel, embedding

Resampling and trimming run in a thread. Where voices are kept, and who may use them, is not known here.
"""

import asyncio

from numpy.typing import ArrayLike

from services.orchestrator.adapters.triton.asking import ask_again
from services.orchestrator.ports.rooms import PreparedVoice, Tokenizer, VoiceMaker, Work
from services.shared.audio.pcm import Samples
from services.shared.audio.speech_input import prepare
from services.shared.errors import EmptyAudioError
from services.shared.triton.client import TritonClient
from services.shared.triton.specs import SPEAKER_ENCODER
from services.shared.voices import VoiceRegistry, checked_clip


class TritonVoiceMaker:
    """Makes voices from clips."""

    def __init__(self, tokenizer: Tokenizer, client: TritonClient, *, timeout_s: float) -> None:
        """Args: tokenizer: the room. client: of the speaker encoder's servers. timeout_s: for the speaker encoder."""
        self._tokenizer = tokenizer
        self._client = client
        self._timeout_s = timeout_s

    async def prepare(
        self, voice_id: str, *, speaker: str, transcript: str, samples: ArrayLike, sample_rate_hz: int
    ) -> PreparedVoice:
        """Listen to a clip.

        Args:
            voice_id: of the new voice.
            speaker: the name that the speech model knows; empty for a clone.
            transcript: what the clip says.
            samples: [N] or [C, N], as recorded, 0.5 s to 30 s.
            sample_rate_hz: their rate.

        Raises:
            EmptyAudioError, AudioTooLongError, NonFiniteAudioError, AudioError: the clip gives no voice.
            RoomUnavailableError, DeadlineExceededError: a room is gone.
        """
        clip, heard = await asyncio.to_thread(_both_forms, samples, sample_rate_hz)
        tokens = await self._listen(heard)
        if not tokens:
            raise EmptyAudioError("there is no speech token in the clip; a voice needs 0.5 s of speech")
        request = {"pcm": clip, "sample_rate_hz": [sample_rate_hz]}
        features = await ask_again(
            lambda left_s: self._client.infer(SPEAKER_ENCODER, request, timeout_s=left_s), timeout_s=self._timeout_s
        )
        return PreparedVoice(voice_id, speaker, transcript, tokens, features["voice_mel"], features["voice_embedding"])

    async def _listen(self, heard: Samples) -> tuple[int, ...]:
        utterance = self._tokenizer.listen(Work())
        try:
            await utterance.push(heard)
            return await utterance.finish()
        finally:
            await utterance.abandon()


class PreparedOnce:
    """The checkpoint's voices, each prepared by its first speaker for all that follow.

    A caller that goes away leaves the work to the others. What failed is tried again by the next caller.
    """

    def __init__(self, registry: VoiceRegistry, maker: VoiceMaker) -> None:
        """Args: registry: of the checkpoint. maker: prepares a clip."""
        self._registry = registry
        self._maker = maker
        self._voices: dict[str, asyncio.Task[PreparedVoice]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Their ids, in the checkpoint's order."""
        return self._registry.names

    @property
    def default_name(self) -> str:
        """The one that speaks where nobody chose. Raises VoiceNotFoundError if there is none."""
        return self._registry.default_name

    async def get(self, voice_id: str) -> PreparedVoice:
        """Give a voice; callers who ask at the same time share the work.

        Raises:
            VoiceNotFoundError: it is none of them.
            MissingFileError, UnreadableAudioError: the checkpoint's clip cannot be read.
            RoomUnavailableError, DeadlineExceededError: a room is gone; the next call tries again.
        """
        task = self._voices.get(voice_id)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            self._registry.get(voice_id)
            task = self._voices[voice_id] = asyncio.get_running_loop().create_task(self._prepare(voice_id))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Stop what is being prepared."""
        for task in self._voices.values():
            task.cancel()
        await asyncio.gather(*self._voices.values(), return_exceptions=True)

    async def _prepare(self, voice_id: str) -> PreparedVoice:
        voice = self._registry.get(voice_id)
        clip = await asyncio.to_thread(voice.audio)
        return await self._maker.prepare(
            voice_id,
            speaker=voice.prompt_speaker,
            transcript=voice.text,
            samples=clip.samples,
            sample_rate_hz=clip.sample_rate_hz,
        )


def _both_forms(samples: ArrayLike, sample_rate_hz: int) -> tuple[Samples, Samples]:
    """The clip as recorded, and as the tokenizer hears a voice's clip."""
    recorded = checked_clip(samples, sample_rate_hz).samples
    return recorded, prepare(recorded, sample_rate_hz, trim=True)
