"""The measurement of a nano checkpoint: words, intervals, the table, the page."""

import math
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.nano import __main__ as benchmark
from benchmarks.nano import judges
from benchmarks.nano.asking import (
    ALIGNED,
    ANSWERED,
    RECALLED,
    REPEAT,
    SPOKEN,
    TTS_REPLIES,
    WRITTEN,
    Outcome,
    human_clips,
    is_right,
)
from benchmarks.nano.figures import edit_distance, error_rate, kept_words, nearest, rate, wilson, word_errors, words
from benchmarks.nano.page import png, spectrogram, write_page
from benchmarks.nano.report import figure_table, figures
from benchmarks.nano_codes import said
from services.nano.evaluation import NEW_TO_NEW, Asked
from services.nano.grammar import CALL_END, CALL_START
from services.nano.phones import LABELS


@pytest.mark.unit
def test_case_punctuation_signs_and_numbers_are_normalised() -> None:
    assert words("Six + 3 = 9!") == ["six", "plus", "three", "equals", "nine"]
    assert words("It's 20, 21, 100 or 2024.") == ["its", "twenty", "twenty", "one", "one", "hundred", "or", "2024"]


@pytest.mark.unit
@pytest.mark.parametrize(
    ("hypothesis", "reference", "errors"),
    [
        ("a b c", "A, b c.", (0, 3)),
        ("a c", "a b c", (1, 3)),
        ("a x b c", "a b c", (1, 3)),
        ("x y z", "a b c", (3, 3)),
        ("", "a b", (2, 2)),
        ("a b c d", "a", (3, 1)),
    ],
)
def test_word_errors_are_the_edit_distance(hypothesis: str, reference: str, errors: tuple[int, int]) -> None:
    assert word_errors(hypothesis, reference) == errors


@pytest.mark.unit
def test_the_reply_that_fits_best_counts() -> None:
    assert nearest("you are Anna", ["Your name is Anna.", "You are Anna."]) == (0, 3)


@pytest.mark.unit
def test_only_words_of_the_vocabulary_count_as_found_again() -> None:
    assert kept_words("he was a young man", "he was not an ill disposed young man", frozenset({"was", "young"})) == (
        2,
        2,
    )


@pytest.mark.unit
def test_wilsons_interval_is_the_textbook_one_and_stays_within_0_and_1() -> None:
    assert wilson(8, 10) == pytest.approx((0.490, 0.943), abs=0.001)
    assert wilson(0, 10)[0] == pytest.approx(0.0, abs=1e-9)
    assert wilson(10, 10)[1] == pytest.approx(1.0)


@pytest.mark.unit
def test_the_error_rate_is_that_of_all_words_and_lies_within_its_interval() -> None:
    found = error_rate([(0, 8), (2, 2)] * 30)
    assert found.value == pytest.approx(0.2)
    assert 0.1 < found.low < 0.2 < found.high < 0.35
    assert math.isnan(error_rate([]).value)
    assert rate([True, False]).value == pytest.approx(0.5)


@pytest.mark.unit
def test_a_reply_is_right_if_it_is_one_of_the_items_whose_calls_have_no_marks_in_text() -> None:
    answers = (f"{CALL_START}timer; minutes=ten{CALL_END} Ten minutes from now.", "Done.")
    asked = Asked(NEW_TO_NEW, "a.ogg", "Ten minutes, please.", "bf_emma", answers=answers)
    assert is_right("timer; minutes=ten Ten minutes from now.", asked)
    assert is_right("done", asked)
    assert not is_right("timer; minutes=two Ten minutes from now.", asked)
    assert not is_right("Ten minutes from now.", asked)


@pytest.mark.unit
def test_human_clips_are_read_with_their_words(tmp_path: Path) -> None:
    assert human_clips(tmp_path / "absent") == {}
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "cards.transcription").write_text("<s> five five  </s> (004)\n<s> ten </s> (009)\n")
    soundfile.write(tmp_path / "cards" / "004.wav", np.zeros(1600), 16_000)
    (tmp_path / "goforward.raw").write_bytes(np.full(800, 16_384, "<i2").tobytes())
    found = human_clips(tmp_path)
    assert {name: text for name, (text, _) in found.items()} == {
        "004": "five five",
        "goforward": "go forward ten meters",
    }
    assert found["goforward"][1].samples.max() == pytest.approx(0.5)


@pytest.mark.unit
def test_the_table_says_which_goals_are_met_and_leaves_out_what_was_not_measured() -> None:
    outcomes = [
        Outcome(ANSWERED, NEW_TO_NEW, "0", "a b", heard="a b", right=True),
        Outcome(WRITTEN, NEW_TO_NEW, "0", "a b", right=True),
        Outcome(WRITTEN, NEW_TO_NEW, "1", "a c", right=False),
        Outcome(RECALLED, "recall", "0", "who", heard="who", right=False),
        Outcome(
            SPOKEN, NEW_TO_NEW, "0", "a b", wanted=("one two three four five",), judged={"x": "one two three four"}
        ),
        Outcome(ALIGNED, "Nano", "0", "a b", right=False),
    ]
    lines = {
        line.split(" | ")[0].strip("| "): line for line in figure_table(figures(outcomes, frozenset())).splitlines()
    }
    assert "≥ 0.85: met" in lines[f"right reply from speech: {NEW_TO_NEW}"]
    assert "0.500" in lines["right reply to the same in writing: held-out phrasing"]
    assert "≤ 0.15: met" in lines[f"own transcript, WER: {NEW_TO_NEW}"]
    assert "≥ 0.9: MISSED" in lines["name recalled from the history"]
    assert "1.000" in lines["spoken reply right and understood"]
    assert "0.000" in lines["spoken reply right and heard word for word"]
    assert "≤ 0: MISSED" in lines["streams out of 2:3 alignment"]
    assert not any("human" in line or "resynthesis" in line for line in lines)


@pytest.mark.unit
def test_random_words_to_repeat_have_lines_of_their_own_where_there_are_other_replies() -> None:
    spoken = Outcome(TTS_REPLIES, "Nano", "0", "a b", wanted=("one two",), judged={"x": "one two"}, intent="sum")
    repeated = replace(spoken, judged={"x": "three four"}, intent=REPEAT)
    asked = [
        Outcome(ANSWERED, NEW_TO_NEW, "0", "a", right=True),
        Outcome(ANSWERED, NEW_TO_NEW, "1", "a", intent=REPEAT),
    ]
    found = [(one.name, one.found.value, one.goal) for one in figures([spoken, repeated, *asked], frozenset())]
    assert [line for line in found if "transcript" not in line[0]] == [
        (f"right reply from speech: {NEW_TO_NEW}", 0.5, 0.85),
        ("… without random words to repeat", 1.0, None),
        ("… random words to repeat", 0.0, None),
        ("judge's WER: spoken text: replies", 0.5, 0.1),
        ("… without random words to repeat", 0.0, None),
        ("… random words to repeat", 1.0, None),
    ]
    assert not any("…" in one.name for one in figures([spoken, asked[0]], frozenset()))


@pytest.mark.unit
def test_phones_are_read_in_order_and_counted_as_edits() -> None:
    labels = [LABELS.index(label) for label in "__kkæææ_æt__"]
    assert said(labels) == ["k", "æ", "æ", "t"]
    assert edit_distance(said(labels), ["k", "æ", "t", "s"]) == 2
    assert edit_distance([], ["k"]) == 1


@pytest.mark.unit
def test_a_tone_is_a_bright_line_in_its_picture_and_the_png_can_be_read_back() -> None:
    picture = spectrogram(np.sin(2 * np.pi * 2000 * np.arange(16_000) / 16_000).astype(np.float32))
    height, width, _ = picture.shape
    assert abs(int(picture[:, width // 2].sum(1).argmax()) - height * 3 // 4) <= 2
    data = png(picture)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (width, height)
    start = data.index(b"IDAT")
    rows = np.frombuffer(zlib.decompress(data[start + 4 :]), np.uint8).reshape(height, 1 + 3 * width)
    np.testing.assert_array_equal(rows[:, 1:].reshape(picture.shape), picture)


@pytest.mark.unit
def test_the_page_shows_every_outcome_and_escapes_what_was_heard(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(4000).astype(np.float32) * 0.1
    outcomes = [Outcome(SPOKEN, "g", "1", "why?", wanted=("so",), judged={"whisper": "<b>so</b>"}, samples=noise)]
    page = write_page(tmp_path, outcomes, "title", "| a | b |\n| --- | --- |\n| 1 | 2 |").read_text()
    assert "&lt;b&gt;so&lt;/b&gt;" in page
    assert "<td>2</td>" in page
    assert len(list((tmp_path / "clips").glob("*.wav"))) == len(list((tmp_path / "pictures").glob("*.png"))) == 1


@pytest.mark.integration
def test_the_whole_measurement_runs_on_the_standing_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(judges, "recognisers", lambda: {"parrot": lambda samples: "so it is"})
    monkeypatch.setattr(judges, "speaker_model", lambda: None)
    monkeypatch.setattr(judges, "opinion_model", lambda: None)
    benchmark.main(["--items", "1", "--output", str(tmp_path), "--human", str(tmp_path / "none")])
    printed = capsys.readouterr().out
    assert f"right reply from speech: {NEW_TO_NEW}" in printed
    assert "right reply to the same in writing: seen phrasing" in printed
    assert "judge's WER: resynthesis" in printed
    assert "no human clips" in printed
    assert (tmp_path / "outcomes.json").exists()
    assert "<audio" in (tmp_path / "index.html").read_text()
