"""The evaluation set: what it asks is held out, and it says itself what is right."""

from collections import Counter
from pathlib import Path

import pytest

from services.nano import speech
from services.nano.domain import build_domain
from services.nano.evaluation import (
    COUNTS,
    NEW_TO_NEW,
    NEW_TO_SEEN,
    RECALL,
    SEEN_TO_NEW,
    SENTENCE,
    read_set,
    utterances,
    write_set,
)
from services.nano.grammar import FILLER
from services.nano.kokoro import Delivery
from services.nano.plan import HELD_OUT_VOICES, build_plan
from services.shared.audio.files import read_audio
from tests.conftest import ROOT
from tests.nano.toy import sound

pytestmark = pytest.mark.unit

SET = ROOT / "benchmarks" / "data" / "nano_evaluation"


def test_each_group_asks_as_many_texts_as_it_says_and_none_that_training_hears_in_that_way() -> None:
    domain = build_domain()
    chosen = list(utterances(domain))
    assert {group: len({u.text for g, u in chosen if g == group}) for group in COUNTS} == COUNTS
    trained = {utterance.identity for utterance in build_plan(domain) if utterance.kind != "evaluation"}
    assert not trained & {utterance.identity for _, utterance in chosen}
    for group, utterance in chosen:
        assert isinstance(utterance.delivery, Delivery)
        voices = {name for name, _ in utterance.delivery.voices}
        assert (voices <= set(HELD_OUT_VOICES)) is (group in (NEW_TO_NEW, SEEN_TO_NEW, RECALL))
        assert (utterance.text in domain.held_out) is (group in (NEW_TO_NEW, NEW_TO_SEEN)) or group == RECALL
        assert (utterance.text in domain.held_out_sentences) is (group == SENTENCE)


def test_a_set_is_written_and_read_back(tmp_path: Path) -> None:
    domain = build_domain()
    everything = list(utterances(domain))
    sentence = next(one for one in everything if one[0] == SENTENCE)
    chosen = [*everything[:3], sentence, *everything[-2:]]
    speech.speak_all([u for _, u in chosen], tmp_path, sound, pause_file=tmp_path / "none")
    write_set(domain, chosen, tmp_path, tmp_path / "set")
    asked = read_set(tmp_path / "set")
    names = {item.reply for item in domain.items if item.intent == "recall"}
    assert Counter(one.group for one in asked) == {NEW_TO_NEW: 3, SENTENCE: 1, RECALL: 2 * len(names)}
    sizes = {one.group: (tmp_path / "set" / one.file).stat().st_size for one in asked}  # of equally long clips
    assert sizes[SENTENCE] > 1.5 * sizes[NEW_TO_NEW]
    assert {one.answers[0] for one in asked if one.group == RECALL} == names
    assert all(turn.text != FILLER for one in asked for turn in one.history)
    assert all(one.item in domain.items for one in asked if one.group == NEW_TO_NEW and not one.history)
    clip = read_audio(tmp_path / "set" / asked[0].file)
    assert clip.sample_rate_hz == 16_000
    assert clip.duration_s == pytest.approx(1.5, abs=0.1)


def test_the_committed_set_is_held_out_of_todays_domain_and_small() -> None:
    domain, asked = build_domain(), read_set(SET)
    counts = Counter(one.group for one in asked)
    assert all(counts[group] >= 60 for group in (*COUNTS, RECALL))
    assert all(one.text in domain.held_out for one in asked if one.group in (NEW_TO_NEW, NEW_TO_SEEN))
    assert all(one.text in domain.held_out_sentences for one in asked if one.group == SENTENCE)
    assert all(one.answers for one in asked if one.group != SENTENCE)
    assert {one.voice for one in asked if one.group in (NEW_TO_NEW, SEEN_TO_NEW, RECALL)} == set(HELD_OUT_VOICES)
    assert all((SET / one.file).is_file() for one in asked)
    assert sum(path.stat().st_size for path in SET.rglob("*") if path.is_file()) <= 3_000_000
