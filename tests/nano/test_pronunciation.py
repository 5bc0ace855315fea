"""How words sound, and which word is said at each phone of a recording."""

from pathlib import Path

import pytest
import torch

from services.nano.pronunciation import (
    NO_WORD,
    read_pronunciations,
    sound_vectors,
    words_in,
    words_said,
    write_pronunciations,
)
from services.shared.errors import MissingFileError

pytestmark = pytest.mark.unit

SOUNDS = {"i": "I", "don't": "dOnt", "see": "si", "the": "ðə", "sea": "si", "cheap": "ʧip"}


def _said(text: str, phones: str) -> list[str]:
    words = words_in(text)
    return ["_" if place == NO_WORD else words[place] for place in words_said(text, list(phones), SOUNDS)]


def test_every_phone_belongs_to_the_word_it_is_said_in_and_silence_to_none() -> None:
    found = _said("I don't see the sea.", "_IdOntsi_ðəsi__")
    assert found == ["_", "I", *["don't"] * 4, "see", "see", "_", "the", "the", "sea", "sea", "_", "_"]


@pytest.mark.parametrize(
    ("phones", "wanted"),
    [
        ("IdOnsiðəsi", ["I", *["don't"] * 3, "see", "see", "the", "the", "sea", "sea"]),  # a phone swallowed
        ("IdOntsiəðiəsi", ["I", *["don't"] * 4, "see", "see", "see", "the", "the", "the", "sea", "sea"]),  # some more
        ("YdOntsiðisi", ["I", *["don't"] * 4, "see", "see", "the", "the", "sea", "sea"]),  # others instead
    ],
)
def test_words_are_found_where_an_accent_says_them_otherwise(phones: str, wanted: list[str]) -> None:
    assert _said("I don't see the sea.", phones) == wanted


def test_a_word_without_an_entry_is_said_nowhere_and_takes_nothing_from_others() -> None:
    assert _said("See Zanzibar, the sea", "si_ðəsi") == ["See", "See", "_", "the", "the", "sea", "sea"]
    assert _said("Zanzibar", "zænzəbɑ") == ["_"] * 7
    assert _said("", "") == []


def test_words_that_sound_alike_begin_with_vectors_that_lie_near() -> None:
    vectors = sound_vectors(["stɹɔbɛɹi", "stɹɔbɛɹiz", "dɪsɛmbə", "si", "si"], 64)
    near = torch.nn.functional.cosine_similarity(vectors[:, None], vectors[None], dim=2)
    assert near[0, 1] > 0.4 > 0.2 > near[0, 2]
    assert near[3, 4] > 0.8
    assert vectors.std() == pytest.approx(1.0, abs=0.15)
    assert torch.equal(vectors, sound_vectors(["stɹɔbɛɹi", "stɹɔbɛɹiz", "dɪsɛmbə", "si", "si"], 64))


def test_pronunciations_are_kept_as_phone_classes(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="run the stage `speech`"):
        read_pronunciations(tmp_path)
    write_pronunciations(["cheap", "day"], tmp_path, {"cheap": "t^ʃˈiːp", "day": "dˈe^ɪ"}.__getitem__)
    assert read_pronunciations(tmp_path) == {"cheap": "ʧip", "day": "dA"}
