"""Files of a checkpoint come in whole, or as an error that names the file; nothing in them is executed."""

import os
import pickle
from pathlib import Path

import pytest
import torch
import yaml

from services.shared.errors import CheckpointError, CorruptFileError, MissingFileError, ShapeMismatchError
from services.shared.files import read_json, read_yaml, require_file
from services.shared.nn.checkpoint import load_strictly, read_torch_state
from services.shared.nn.onnx import open_session

pytestmark = pytest.mark.unit


class _Trap:
    """A pickle that would create a file if it were executed."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_a_missing_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nowhere is not a folder"):
        require_file(tmp_path / "nowhere", "flow.pt")
    with pytest.raises(MissingFileError, match=r"flow\.pt is missing"):
        require_file(tmp_path, "flow.pt")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_plain_state_dict_is_read_in_both_formats_of_torch(tmp_path: Path, legacy: bool) -> None:
    state = {"w": torch.arange(6.0).view(2, 3)}
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    assert torch.equal(read_torch_state(tmp_path / "a.pt")["w"], state["w"])


def test_one_level_of_wrapping_is_opened(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.ones(2)}, "epoch": 3}, tmp_path / "a.pt")
    assert list(read_torch_state(tmp_path / "a.pt")) == ["w"]


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    (tmp_path / "a.pt").write_bytes(pickle.dumps({"w": _Trap(target)}))
    torch.save({"w": _Trap(target)}, tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        with pytest.raises(CorruptFileError, match=name):
            read_torch_state(tmp_path / name)
    assert not target.exists()


@pytest.mark.parametrize("content", [{"w": 3}, [torch.ones(1)], torch.ones(1), {1: torch.ones(1)}])
def test_anything_but_tensors_by_name_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CorruptFileError, match="no plain state dict"):
        read_torch_state(tmp_path / "a.pt")


@pytest.mark.parametrize("keep", [0, 10, 400, 900])
def test_a_truncated_state_dict_is_refused(tmp_path: Path, keep: int) -> None:
    torch.save({"w": torch.ones(300)}, tmp_path / "a.pt")
    whole = (tmp_path / "a.pt").read_bytes()
    assert len(whole) > keep
    (tmp_path / "a.pt").write_bytes(whole[:keep])
    with pytest.raises(CorruptFileError, match=r"a\.pt"):
        read_torch_state(tmp_path / "a.pt")


def test_strict_loading_lists_what_is_missing_unexpected_and_misshapen() -> None:
    module = torch.nn.Linear(2, 3)
    with pytest.raises(
        ShapeMismatchError, match=r"x\.pt .*missing: bias.*unexpected: extra.*weight is \[3\], not \[3, 2\]"
    ):
        load_strictly(module, {"weight": torch.ones(3), "extra": torch.ones(1)}, Path("x.pt"))
    load_strictly(module, {"weight": torch.ones(3, 2, dtype=torch.float16), "bias": torch.zeros(3)}, Path("x.pt"))
    assert module.weight.dtype == torch.float32
    assert module.weight.sum() == 6


def test_json_and_yaml_are_data_only(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1')
    (tmp_path / "a.yaml").write_text("!!python/object/apply:os.system ['true']")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe")
    for path in ("a.json", "b.json"):
        with pytest.raises(CorruptFileError, match=path):
            read_json(tmp_path / path)
    with pytest.raises(CorruptFileError, match=r"a\.yaml"):
        read_yaml(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("a: [1, 2]")
    assert read_yaml(tmp_path / "a.yaml", yaml.SafeLoader) == {"a": [1, 2]}


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x07" * 40])
def test_a_file_that_is_no_network_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.onnx"):
        open_session(tmp_path / "a.onnx")
