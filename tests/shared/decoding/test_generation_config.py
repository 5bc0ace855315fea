"""A checkpoint's generation_config.json gives the defaults of sampling, and a wrong one is named."""

import json
from pathlib import Path

import pytest

from services.shared.errors import CorruptFileError
from services.shared.sampling import SamplingParams, with_checkpoint_defaults

pytestmark = pytest.mark.unit

RELEASED = SamplingParams(max_new_tokens=5, temperature=0.7, top_k=50, top_p=0.9, repetition_aware=True)


def test_without_a_file_the_released_values_stay(tmp_path: Path) -> None:
    assert with_checkpoint_defaults(RELEASED, tmp_path) == RELEASED


def test_the_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, {"temperature": 0.4, "top_k": 10, "eos_token_id": 3, "transformers_version": "4.48.3"})
    changed = with_checkpoint_defaults(RELEASED, tmp_path)
    assert (changed.temperature, changed.top_k, changed.top_p) == (0.4, 10, 0.9)
    assert (changed.max_new_tokens, changed.repetition_aware) == (5, True)


def test_a_checkpoint_that_does_not_sample_takes_the_likeliest(tmp_path: Path) -> None:
    write(tmp_path, {"do_sample": False, "temperature": 0.9})
    assert with_checkpoint_defaults(RELEASED, tmp_path).temperature == 0


@pytest.mark.parametrize(
    "content", [[], {"temperature": "hot"}, {"temperature": -1}, {"top_k": True}, {"top_k": 2.5}, {"top_p": 0}]
)
def test_a_wrong_value_names_the_file(tmp_path: Path, content: object) -> None:
    write(tmp_path, content)
    with pytest.raises(CorruptFileError, match=r"generation_config\.json"):
        with_checkpoint_defaults(RELEASED, tmp_path)


def write(folder: Path, content: object) -> None:
    (folder / "generation_config.json").write_text(json.dumps(content))
