"""Loading a vocoder folder: the public names and shapes at full size, and every kind of broken folder."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.released.vocoder import full_size_config
from services.shared.errors import CheckpointError, CorruptFileError, MissingFileError, ShapeMismatchError
from services.vocoder import load_vocoder
from services.vocoder.flow import Flow
from services.vocoder.hift import HiFT
from tests.conftest import DATA
from tests.vocoder.cases import GOLDEN_FOLDER, NANO_FOLDER

pytestmark = pytest.mark.unit

FILES = ("cosyvoice.yaml", "flow.pt", "hift.pt", "campplus.onnx")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        shutil.copy(NANO_FOLDER / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", ["flow", "hift"])
def test_names_and_shapes_at_full_size_are_the_public_ones(name: str) -> None:
    config = full_size_config()
    with torch.device("meta"):
        module = Flow(config.flow) if name == "flow" else HiFT(config.hift)
    public = json.loads((DATA / "state_dicts" / f"{name}.json").read_text())
    assert {key: list(value.shape) for key, value in module.state_dict().items()} == {
        key: shape for key, (shape, _) in public.items()
    }


def test_a_whole_folder_loads(folder: Path) -> None:
    vocoder = load_vocoder(folder)
    assert vocoder.sample_rate_hz == 22050
    assert vocoder.flow.input_embedding.weight.dtype == torch.float32
    assert load_vocoder(str(folder), dtype=torch.bfloat16).flow.input_embedding.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).rename(folder / f"old_{name}")
    with pytest.raises(MissingFileError, match=name):
        load_vocoder(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFileError, match=name):
        load_vocoder(folder)


@pytest.mark.parametrize("name", ["flow.pt", "hift.pt"])
def test_a_pickle_with_code_is_refused_unrun(folder: Path, name: str) -> None:
    trap = folder / "trap"
    (folder / name).write_bytes(pickle.dumps(_Trap(str(trap))))
    with pytest.raises(CorruptFileError, match=name):
        load_vocoder(folder)
    assert not trap.exists()


@pytest.mark.parametrize("name", ["flow.pt", "hift.pt"])
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda state: state.pop(next(reversed(state))), "missing"),
        (lambda state: state.update(surplus=torch.zeros(1)), "unexpected: surplus"),
        (lambda state: state.update({next(iter(state)): torch.zeros(2, 3, 4)}), "wrong shape"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(
    folder: Path, name: str, change: Callable[[dict[str, torch.Tensor]], None], complaint: str
) -> None:
    state = torch.load(folder / name, weights_only=True)
    change(state)
    torch.save(state, folder / name)
    with pytest.raises(ShapeMismatchError, match=rf"{name}.*{complaint}"):
        load_vocoder(folder)


def test_weights_beside_the_wrong_configuration_are_refused(folder: Path) -> None:
    shutil.copy(GOLDEN_FOLDER / "flow.pt", folder / "flow.pt")
    with pytest.raises(ShapeMismatchError, match=r"flow\.pt.*use the configuration that belongs"):
        load_vocoder(folder)


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        load_vocoder(tmp_path / "nowhere")


class _Trap:
    """A pickle that makes a folder when it is run."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        import os

        return os.mkdir, (self.path,)
