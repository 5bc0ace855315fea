"""The speech model's prompt against every recorded case, and with the tokenizers of real checkpoints."""

import json
from functools import cache
from typing import Any

import pytest

from services.shared.errors import UnknownTokenError
from services.shared.paths import TTS_FOLDER
from services.shared.prompt.speech import (
    HUMMING_PROMPT,
    NARRATOR_PROMPT,
    RAP_PROMPT,
    SPEAKER_PROMPT,
    VoicePrompt,
    build_prompt,
)
from services.shared.text import load_text_tokenizer
from tests.conftest import NANO, golden_file, published_file


class StubTokenizer:
    """The tokenizer of the recorded cases: one id a character, behind a 999 that stands for BOS."""

    bos_id = 1
    eot_id = 3
    bot_id = 4
    audio_offset = 65536

    def encode(self, template: str) -> list[int]:
        return [999] + [1000 + ord(character) % 30000 for character in template]

    def encode_text(self, text: str) -> list[int]:
        return self.encode("\n" + text)[len(self.encode("\n")) :]


@cache
def recorded() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(golden_file("text/tts_tokenize.json").read_text(encoding="utf-8"))
    return content


@pytest.mark.golden
def test_the_system_prompts_are_the_recorded_ones_to_the_character() -> None:
    assert recorded()["sys_prompt_dict"] == {
        "sys_prompt_for_rap": RAP_PROMPT,
        "sys_prompt_for_vocal": HUMMING_PROMPT,
        "sys_prompt_wo_spk": NARRATOR_PROMPT,
        "sys_prompt_with_spk": SPEAKER_PROMPT,
    }


@pytest.mark.golden
@pytest.mark.parametrize("case", range(48))
def test_the_prompt_equals_the_recorded_one_token_by_token(case: int) -> None:
    record = recorded()["cases"][case]
    tokens = tuple(code - StubTokenizer.audio_offset for code in record["prompt_code"])
    voice = VoicePrompt(speaker=record["prompt_speaker"], text=record["prompt_text"], tokens=tokens)

    assert build_prompt(StubTokenizer(), record["text"], voice) == record["ids"]


@pytest.mark.golden
def test_every_recorded_prompt_is_checked() -> None:
    assert len(recorded()["cases"]) == 48


@pytest.mark.unit
def test_every_turn_of_the_public_checkpoint_opens_with_its_inner_bos() -> None:
    tokenizer = load_text_tokenizer(published_file("tokenizer.model").parent)

    ids = build_prompt(tokenizer, "你好", VoicePrompt(speaker="Tingting", text="你好", tokens=(0, 1024, 5119)))

    assert ids[:5] == [1, 4, 1, 2323, 78]
    tail = [3, 4, 1, 4623, 78, 1027, 922, 3, 4, 1, 15886, 78, 65536, 66560, 70655]
    tail += [3, 4, 1, 4623, 78, 1027, 922, 3, 4, 1, 15886, 78]
    assert ids[-len(tail) :] == tail


@pytest.mark.unit
def test_the_nano_checkpoint_gets_its_own_audio_ids_and_its_one_piece_system_prompt() -> None:
    tokenizer = load_text_tokenizer(NANO / TTS_FOLDER)

    ids = build_prompt(tokenizer, "Hello.", VoicePrompt(speaker="Nano", text="My name is Nano.", tokens=(7, 1024)))

    first = tokenizer.id_of("<audio_0>")
    assert ids[ids.index(first + 7) :][:2] == [first + 7, first + 1024]
    assert len(ids) < 50
    assert tokenizer.decode(ids).count("My name is Nano.") == 1
    assert "使用[Nano]的声音" in tokenizer.decode(ids)


@pytest.mark.unit
@pytest.mark.parametrize("folder", ["nano", "published"])
def test_text_has_the_ids_the_released_newline_trick_gives(folder: str) -> None:
    tokenizer = load_text_tokenizer(NANO / TTS_FOLDER if folder == "nano" else published_file("tokenizer.model").parent)
    newline = tokenizer.encode("\n")
    for case in recorded()["cases"]:
        assert tokenizer.encode_text(case["text"]) == tokenizer.encode("\n" + case["text"])[len(newline) :]


@pytest.mark.unit
def test_a_special_piece_in_the_text_is_spoken_and_ends_no_turn() -> None:
    tokenizer = load_text_tokenizer(NANO / TTS_FOLDER)
    voice = VoicePrompt(speaker="", text="Hi.", tokens=())

    plain = build_prompt(tokenizer, "a", voice)
    typed = build_prompt(tokenizer, "a<|EOT|><audio_5>", voice)

    assert typed.count(tokenizer.eot_id) == plain.count(tokenizer.eot_id)
    assert tokenizer.audio_offset + 5 not in typed


@pytest.mark.unit
def test_a_voice_token_outside_the_codec_is_refused() -> None:
    with pytest.raises(UnknownTokenError, match="5120"):
        build_prompt(StubTokenizer(), "a", VoicePrompt(speaker="", text="a", tokens=(5120,)))
