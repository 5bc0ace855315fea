"""Speaking one clause: what the decoder is asked for, what comes out, and every way a reply can go wrong."""

import re
from collections.abc import Generator, Sequence

import pytest

from services.shared.errors import (
    EmptyReplyError,
    GenerationError,
    MisalignedSpeechError,
    NothingToSpeakError,
    PromptTooLongError,
    TextInSpeechError,
)
from services.shared.paths import TTS_FOLDER
from services.shared.prompt.speech import VoicePrompt, build_prompt
from services.shared.prompt.speech.decoding import SpeechParams
from services.shared.prompt.speech.speech_length import estimate_speech_s, max_speech_s
from services.shared.sampling import FinishReason, SamplingParams
from services.shared.voices import VoiceRegistry
from services.tts.speech_lm import SpeechLm, load_speech_lm
from tests.conftest import NANO
from tests.shared.prompt.test_speech_prompt import StubTokenizer

OFFSET = StubTokenizer.audio_offset
GROUP = [3, 700, 1024, 2048, 5119]
VOICE = VoicePrompt(speaker="Nano", text="hi", tokens=tuple(GROUP))

NANO_VOICE_TOKENS = tuple(
    int(token)
    for token in re.findall(
        r"\d+",
        """
    13 205 1213 2376 3365  52 303 1165 2053 3403  332 314 1365 2164 3224  260 463 1253 2407 3484  489 168 1445 2050 3382
    186 293 1091 2061 3222  114 145 1082 2492 3141  414 380 1267 2094 3186  453 453 1524 2253 3153  455 5 1247 2271 3295
    """,
    )
)


class FakeDecoder:
    """Gives fixed ids, as many as are asked for, and remembers what was asked."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = ids
        self.closed = False
        self.prompt_ids: list[int] = []
        self.params: SamplingParams | None = None

    def generate(self, prompt_ids: Sequence[int], params: SamplingParams) -> Generator[int, None, FinishReason]:
        self.prompt_ids, self.params = list(prompt_ids), params
        self.stream = self._generate(params.max_new_tokens)  # kept: only a real close ends it
        return self.stream

    def _generate(self, count: int) -> Generator[int, None, FinishReason]:
        try:
            yield from self.ids[:count]
            return FinishReason.LENGTH if len(self.ids) >= count else FinishReason.STOP
        finally:
            self.closed = True


def speech_lm(values: Sequence[int], *, max_seq_len: int = 4096) -> tuple[SpeechLm, FakeDecoder]:
    decoder = FakeDecoder([value + OFFSET for value in values])
    return SpeechLm(decoder, StubTokenizer(), max_seq_len=max_seq_len), decoder


@pytest.mark.unit
def test_speech_comes_in_whole_groups_of_codec_values() -> None:
    model, _ = speech_lm(GROUP * 2 + [9])

    stream = model.speak("hello", VOICE)

    assert list(stream) == [GROUP, GROUP]
    assert (stream.repairs.seen, stream.repairs.unfinished, stream.repairs.faults) == (11, 1, 0)


@pytest.mark.unit
def test_the_decoder_is_asked_as_the_released_system_asks() -> None:
    model, decoder = speech_lm(GROUP)
    list(model.speak("hello", VOICE, SpeechParams(seed=7)))

    assert decoder.prompt_ids == build_prompt(StubTokenizer(), "hello", VOICE)
    params = decoder.params
    assert params is not None
    assert (params.temperature, params.top_k, params.top_p, params.seed) == (0.7, 50, 1.0, 7)
    assert params.stop_ids == (StubTokenizer.eot_id,)
    assert params.repetition_aware


@pytest.mark.unit
def test_closing_the_stream_cancels_the_decoding() -> None:
    model, decoder = speech_lm(GROUP * 9)
    stream = model.speak("hello", VOICE)

    assert next(stream) == GROUP
    assert not decoder.closed
    stream.close()
    assert decoder.closed
    assert list(stream) == []


@pytest.mark.unit
def test_a_loop_is_stopped_at_the_longest_speech_of_the_text() -> None:
    model, decoder = speech_lm(GROUP * 2000)

    with pytest.raises(GenerationError, match="did not end"):
        list(model.speak("hello", VOICE))
    assert decoder.params is not None
    assert decoder.params.max_new_tokens == pytest.approx(max_speech_s("hello") * 41.67, rel=0.01)


@pytest.mark.unit
def test_a_reply_without_a_group_is_an_error() -> None:
    model, _ = speech_lm(GROUP[:4])

    with pytest.raises(EmptyReplyError):
        list(model.speak("hello", VOICE))


@pytest.mark.unit
def test_text_and_garble_in_the_stream_are_errors_and_cancel() -> None:
    for values, error in (([*GROUP, -OFFSET + 5], TextInSpeechError), ([1024] * 30, MisalignedSpeechError)):
        model, decoder = speech_lm(values)
        with pytest.raises(error):
            list(model.speak("hello", VOICE))
        assert decoder.closed


@pytest.mark.unit
@pytest.mark.parametrize("text", ["", "…", "(高兴1)"])
def test_text_without_a_word_is_refused_before_decoding(text: str) -> None:
    model, decoder = speech_lm(GROUP)

    with pytest.raises(NothingToSpeakError):
        model.speak(text, VOICE)
    assert decoder.params is None


@pytest.mark.unit
def test_a_prompt_that_leaves_no_room_for_its_speech_is_refused_and_a_tight_one_is_cut_to_the_room() -> None:
    prompt = len(build_prompt(StubTokenizer(), "hello", VOICE))

    model, _ = speech_lm(GROUP, max_seq_len=prompt + 10)
    with pytest.raises(PromptTooLongError, match=f"{prompt} of {prompt + 10}"):
        model.speak("hello", VOICE)

    model, decoder = speech_lm(GROUP, max_seq_len=prompt + 60)
    list(model.speak("hello", VOICE))
    assert decoder.params is not None
    assert decoder.params.max_new_tokens == 60


@pytest.mark.unit
def test_lengths_are_estimated_by_script_and_music_may_last_longer() -> None:
    assert estimate_speech_s("今天天气很好") == pytest.approx(1.38)
    assert 1.0 < estimate_speech_s("The capital of Egypt is Cairo.") < 3.0
    assert estimate_speech_s("한국어") < estimate_speech_s("한국어입니다")
    assert max_speech_s("(RAP)" + "字" * 20) > 1.5 * max_speech_s("(高兴1)" + "字" * 20)


@pytest.mark.integration
def test_the_nano_model_speaks_and_the_same_seed_speaks_the_same() -> None:
    model = load_speech_lm(NANO / TTS_FOLDER)
    voice = VoiceRegistry.load(NANO / TTS_FOLDER).get("Nano")
    prompt = VoicePrompt(speaker=voice.prompt_speaker, text=voice.text, tokens=NANO_VOICE_TOKENS)

    first, again, other = (list(model.speak("Hello.", prompt, SpeechParams(seed=seed))) for seed in (1, 1, 2))

    assert first == again != other
    assert all(len(group) == 5 for group in first)
