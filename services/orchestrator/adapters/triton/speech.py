"""The tts room: one clause in a voice to whole groups of speech tokens, as they are generated.

    clause, voice ── plan ──> ids ── step1_tts ──> ids, a group at a time ── aligner ──> groups of five codec values

The same clause, voice and seed give the groups of `services.tts.speech_lm`. What a clause is, and what is done when
one cannot be spoken, its caller decides.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from services.orchestrator.adapters.triton.asking import generate
from services.orchestrator.ports.rooms import PreparedVoice, Work
from services.shared.codec import GROUP_TOKENS
from services.shared.prompt.speech import VoicePrompt
from services.shared.prompt.speech.decoding import SpeechGroups, SpeechParams, plan_speech
from services.shared.step1_config import Step1Config
from services.shared.text import TextTokenizer
from services.shared.triton.client import TritonClient
from services.shared.triton.specs import STEP1_TTS


class TritonSpeechModel:
    """The speech model of one checkpoint, on the servers of one pool."""

    def __init__(
        self,
        client: TritonClient,
        tokenizer: TextTokenizer,
        config: Step1Config,
        params: SpeechParams,
        *,
        timeout_s: float,
    ) -> None:
        """Args: client: of the pool's servers. tokenizer, config, params: the checkpoint's. timeout_s: for a clause."""
        self._client = client
        self._tokenizer = tokenizer
        self._max_seq_len = config.max_seq_len
        self._params = params
        self._timeout_s = timeout_s

    async def speak(
        self, clause: str, voice: PreparedVoice, *, seed: int, work: Work
    ) -> AsyncGenerator[tuple[int, ...], None]:
        """Speak one clause; closing the generator cancels it in the engine.

        Args:
            clause: what to say, its style tags in front.
            voice: who speaks.
            seed: the same one gives the same speech.
            work: whose work it is.

        Yields:
            Groups of five codec values.

        Raises:
            NothingToSpeakError: the clause has no speakable character.
            PromptTooLongError: voice and clause leave too little room for the speech.
            GenerationError: what came is no speech; another seed may do better.
            RoomUnavailableError, DeadlineExceededError, OverloadedError: as they say.
        """
        prompt = VoicePrompt(voice.speaker, voice.transcript, voice.tokens)
        params = replace(self._params, seed=seed)
        plan = plan_speech(self._tokenizer, clause, prompt, params, max_seq_len=self._max_seq_len)
        speech = SpeechGroups(audio_offset=self._tokenizer.audio_offset)
        ids = generate(
            self._client,
            STEP1_TTS,
            plan.prompt_ids,
            plan.sampling,
            work=work,
            timeout_s=self._timeout_s,
            ids_per_response=GROUP_TOKENS,
        )
        async with aclosing(ids) as answers:
            async for answer in answers:
                for group in speech.push(answer.ids):
                    yield tuple(group)
                if answer.finish_reason is not None:
                    speech.finish(answer.finish_reason)
