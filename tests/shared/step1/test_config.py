"""config.json is read as it is, and every error names the file and the key."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.shared.errors import CorruptFileError, MissingFileError
from services.shared.nn.step1 import read_step1_config
from tests.shared.step1.tiny import TINY_CONFIG

pytestmark = pytest.mark.unit


def write(folder: Path, **changes: Any) -> Path:
    values = {key: value for key, value in (TINY_CONFIG | changes).items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def test_every_size_comes_from_the_file(tmp_path: Path) -> None:
    config = read_step1_config(write(tmp_path, max_seq_len=77, rms_norm_eps=1e-6))
    assert (config.hidden_size, config.intermediate_size, config.vocab_size, config.max_seq_len) == (24, 40, 40, 77)
    assert (config.head_dim, config.heads_per_group, config.num_hidden_layers) == (4, 3, 2)
    assert (config.rms_norm_eps, config.eos_ids) == (1e-6, (3,))


def test_keys_with_a_default_may_be_absent(tmp_path: Path) -> None:
    config = read_step1_config(write(tmp_path, rms_norm_eps=..., eos_token_id=..., model_type=...))
    assert (config.rms_norm_eps, config.eos_ids) == (1e-5, (3,))


def test_several_end_ids_are_taken(tmp_path: Path) -> None:
    assert read_step1_config(write(tmp_path, eos_token_id=[3, 5])).eos_ids == (3, 5)


@pytest.mark.parametrize(
    "key",
    [
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_attention_groups",
        "num_hidden_layers",
        "vocab_size",
        "max_seq_len",
    ],
)
@pytest.mark.parametrize("value", [..., 0, -4, 2.5, "24", None, True])
def test_a_size_that_is_no_positive_integer_is_named(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(CorruptFileError, match=rf"config\.json: {key} "):
        read_step1_config(write(tmp_path, **{key: value}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 7}, "num_attention_heads 7 does not divide hidden_size 24"),
        ({"num_attention_groups": 4}, "num_attention_groups 4 does not divide num_attention_heads 6"),
        ({"eos_token_id": 40}, "eos_token_id"),
        ({"eos_token_id": []}, "eos_token_id"),
        ({"eos_token_id": None}, "eos_token_id"),
        ({"rms_norm_eps": 0}, "rms_norm_eps"),
        ({"model_type": "llama"}, "model_type is 'llama'"),
    ],
)
def test_values_that_cannot_be_are_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(CorruptFileError, match=message):
        read_step1_config(write(tmp_path, **changes))


@pytest.mark.parametrize("content", ["", "[]", "{", "null"])
def test_a_file_that_is_no_object_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CorruptFileError, match=r"config\.json"):
        read_step1_config(tmp_path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"config\.json"):
        read_step1_config(tmp_path)
