"""A folder that is missing something, damaged, or of another kind: the error names the file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from services.shared.errors import CheckpointError, CorruptFileError, MissingFileError, ShapeMismatchError
from services.shared.paths import CENTROIDS_FILE, PARAFORMER_FOLDER, SEMANTIC_ONNX_FILE
from services.tokenizer import load_speech_tokenizer
from services.tokenizer.paraformer.config import read_folder
from tests.tokenizer.conftest import lay_out

pytestmark = pytest.mark.unit

MODEL = f"{PARAFORMER_FOLDER}/model.pt"
CONFIG = f"{PARAFORMER_FOLDER}/config.yaml"
CONFIGURATION = f"{PARAFORMER_FOLDER}/configuration.json"
CMVN = f"{PARAFORMER_FOLDER}/am.mvn"
FILES = [MODEL, CONFIG, CONFIGURATION, CMVN, CENTROIDS_FILE, SEMANTIC_ONNX_FILE]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return lay_out(tmp_path / "Step-Audio-Tokenizer")


def edit_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:  # parsed YAML
    path = folder / CONFIG
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    state = torch.load(folder / MODEL, weights_only=True)
    change(state)
    torch.save(state, folder / MODEL)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nowhere"):
        load_speech_tokenizer(tmp_path / "nowhere")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(MissingFileError, match=Path(name).name):
        load_speech_tokenizer(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_renamed_file_is_missed_under_its_own_name(folder: Path, name: str) -> None:
    (folder / name).rename(folder / f"{name}.bak")
    with pytest.raises(MissingFileError, match=Path(name).name):
        load_speech_tokenizer(folder)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.97])
@pytest.mark.parametrize("name", [MODEL, CONFIGURATION, CMVN, CENTROIDS_FILE, SEMANTIC_ONNX_FILE])
def test_a_truncated_file_is_named(folder: Path, name: str, share: float) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=Path(name).name):
        load_speech_tokenizer(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_something_else_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\x00\x01 this is: [not what the name says")
    with pytest.raises(CheckpointError, match=Path(name).name):
        load_speech_tokenizer(folder)


def test_the_tokens_file_and_the_rest_of_the_model_are_not_needed(folder: Path) -> None:
    (folder / PARAFORMER_FOLDER / "tokens.json").unlink()
    edit_weights(folder, lambda state: state.update({"predictor.w": torch.zeros(3), "decoder.embed": torch.zeros(2)}))
    load_speech_tokenizer(folder)


def test_weights_saved_under_state_dict_are_read(folder: Path) -> None:
    state = torch.load(folder / MODEL, weights_only=True)
    torch.save({"state_dict": state, "epoch": 3}, folder / MODEL)
    load_speech_tokenizer(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("encoder.after_norm.weight"),
        lambda state: state.update({"encoder.extra": torch.zeros(1)}),
        lambda state: state.update({"encoder.after_norm.weight": torch.zeros(63)}),
        lambda state: [state.pop(name) for name in list(state) if name.startswith("encoder.")],
    ],
    ids=["missing", "unexpected", "wrong shape", "no encoder"],
)
def test_weights_that_do_not_fit_are_named(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    edit_weights(folder, change)
    with pytest.raises(ShapeMismatchError, match=r"model\.pt"):
        load_speech_tokenizer(folder)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("encoder_conf", "output_size", 128),
        ("encoder_conf", "num_blocks", 3),
        ("encoder_conf", "num_blocks", 5),
        ("encoder_conf", "linear_units", 64),
    ],
)
def test_a_configuration_of_other_sizes_does_not_fit_the_weights(
    folder: Path, section: str, key: str, value: int
) -> None:
    edit_config(folder, lambda config: config[section].update({key: value}))
    with pytest.raises(ShapeMismatchError, match=r"model\.pt"):
        load_speech_tokenizer(folder)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("encoder_conf", "output_size", "big"),
        ("encoder_conf", "attention_heads", 0),
        ("encoder_conf", "attention_heads", 7),
        ("encoder_conf", "kernel_size", 31),
        ("encoder_conf", "sanm_shfit", 2),
        ("encoder_conf", "input_layer", "conv2d"),
        ("frontend_conf", "fs", 8000),
        ("frontend_conf", "lfr_m", 5),
        ("frontend_conf", "window", "hann"),
        ("frontend_conf", "dither", "much"),
        ("frontend_conf", "dither", -1.0),
    ],
)
def test_a_configuration_of_another_network_is_refused_by_the_key(
    folder: Path, section: str, key: str, value: object
) -> None:
    edit_config(folder, lambda config: config[section].update({key: value}))
    with pytest.raises(CheckpointError, match=key):
        load_speech_tokenizer(folder)


@pytest.mark.parametrize("key", ["encoder_conf", "frontend_conf"])
def test_a_configuration_without_a_section_is_named(folder: Path, key: str) -> None:
    edit_config(folder, lambda config: config.pop(key))
    with pytest.raises(CorruptFileError, match=key):
        load_speech_tokenizer(folder)


def test_another_encoder_class_is_refused(folder: Path) -> None:
    edit_config(folder, lambda config: config.update({"encoder": "ConformerEncoder"}))
    with pytest.raises(CheckpointError, match="ConformerEncoder"):
        load_speech_tokenizer(folder)


@pytest.mark.parametrize("key", ["init_param", "config", "frontend_conf"])
def test_a_configuration_that_does_not_name_a_file_is_refused(folder: Path, key: str) -> None:
    content = json.loads((folder / CONFIGURATION).read_text())
    del content["file_path_metas"][key]
    (folder / CONFIGURATION).write_text(json.dumps(content))
    with pytest.raises(CorruptFileError, match=key):
        load_speech_tokenizer(folder)


def test_files_are_found_under_the_names_of_the_configuration(folder: Path) -> None:
    content = json.loads((folder / CONFIGURATION).read_text())
    content["file_path_metas"]["init_param"] = "other.pt"
    (folder / CONFIGURATION).write_text(json.dumps(content))
    (folder / MODEL).rename(folder / PARAFORMER_FOLDER / "other.pt")
    load_speech_tokenizer(folder)


def test_dither_is_what_the_configuration_asks_for_and_none_if_it_says_nothing(folder: Path) -> None:
    edit_config(folder, lambda config: config["frontend_conf"].update({"dither": 0.5}))
    assert read_folder(folder / PARAFORMER_FOLDER).dither == 0.5
    edit_config(folder, lambda config: config["frontend_conf"].pop("dither"))
    assert read_folder(folder / PARAFORMER_FOLDER).dither == 0.0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<AddShift>", "<Shift>"),
        ("<Rescale>", "<Scale>"),
        ("-10.243780", "ten"),
        ("-10.243780", "nan"),
        ("-10.24", "1 -10.24"),
    ],
)
def test_a_damaged_normalisation_is_named(folder: Path, old: str, new: str) -> None:
    content = (folder / CMVN).read_text()
    assert old in content
    (folder / CMVN).write_text(content.replace(old, new, 1))
    with pytest.raises(CheckpointError, match=r"am\.mvn"):
        load_speech_tokenizer(folder)


@pytest.mark.parametrize(
    ("array", "error"),
    [
        (np.zeros((1023, 64), np.float32), ShapeMismatchError),
        (np.zeros((1024, 512), np.float32), ShapeMismatchError),
        (np.zeros(1024, np.float32), ShapeMismatchError),
        (np.zeros((1024, 64), np.int64), CorruptFileError),
        (np.full((1024, 64), np.nan, np.float32), CorruptFileError),
        (np.array([{"a": 1}], dtype=object), CorruptFileError),
    ],
    ids=["1023 rows", "other size", "one dimension", "integers", "nan", "pickled objects"],
)
def test_centroids_that_are_none_are_refused(
    folder: Path, array: Any, error: type[CheckpointError]
) -> None:  # any dtype
    np.save(folder / CENTROIDS_FILE, array, allow_pickle=True)
    with pytest.raises(error, match=CENTROIDS_FILE):
        load_speech_tokenizer(folder)


def test_an_archive_of_arrays_is_no_centroids(folder: Path) -> None:
    np.savez(folder / "a.npz", np.zeros(3))
    shutil.move(folder / "a.npz", folder / CENTROIDS_FILE)
    with pytest.raises(CorruptFileError, match=CENTROIDS_FILE):
        load_speech_tokenizer(folder)
