"""Leading style tags: what they are, and where they send a text."""

import json

import pytest

from services.shared.prompt.speech import is_music, leading_tag, leading_tags, speakable, voice_entry
from tests.conftest import golden_file


@pytest.mark.golden
def test_every_recorded_tag_is_found() -> None:
    cases = json.loads(golden_file("text/tts_tokenize.json").read_text(encoding="utf-8"))["cases"]

    assert [leading_tag(case["text"]) for case in cases] == [case["instruction"] for case in cases]


@pytest.mark.unit
@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("（RAP）我（好）啊", "RAP"),  # the released pattern gives "RAP）我（好"
        ("(高兴1)(粤语)你", "高兴1"),
        ("（RAP）a (b) c", "RAP"),
        ("你好（RAP）", ""),
        ("（没有结束", ""),
        ("", ""),
    ],
)
def test_a_tag_ends_at_its_own_bracket(text: str, tag: str) -> None:
    assert leading_tag(text) == tag


@pytest.mark.unit
@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("（RAP）啊", "TingtingRAP"),
        ("(哼唱)啊", "Tingting哼唱"),
        ("（RAP）我（好）啊", "TingtingRAP"),
        ("(高兴1)(RAP)啊", "Tingting"),  # only the first tag routes
        ("(Humming (哼唱))啊", "Tingting"),
        ("啊", "Tingting"),
    ],
)
def test_music_takes_the_speakers_recording_of_that_kind(text: str, entry: str) -> None:
    assert voice_entry("Tingting", text) == entry
    assert is_music(text) == (entry != "Tingting")


@pytest.mark.unit
def test_the_run_of_tags_is_taken_whole_and_a_long_remark_is_no_tag() -> None:
    assert leading_tags("(高兴1)（粤语）你好(x)") == "(高兴1)（粤语）"
    assert leading_tags("(this remark is far too long to be a tag) yes") == ""
    assert leading_tags("(Really.) yes") == ""
    assert leading_tags("(a)(b)(c)(d)(e)yes") == "(a)(b)(c)(d)"


@pytest.mark.unit
@pytest.mark.parametrize(
    ("text", "expected"),
    [("a", True), ("(高兴1)7", True), ("5%", True), ("한", True), ("(高兴1)…！", False), ("  ", False), ("🙂", False)],
)
def test_speakable_is_a_letter_a_number_or_a_sign_that_is_read_out(text: str, expected: bool) -> None:
    assert speakable(text) is expected
