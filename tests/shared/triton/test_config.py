"""The committed config.pbtxt files are what the specs render, and Triton's own parser reads them so."""

from pathlib import Path

import pytest

from services.shared.triton import MODELS, DType, ModelSpec, TensorSpec
from services.shared.triton.config import config_path, render
from tests.conftest import ROOT

pytest.importorskip("tritonclient", reason="the messages of Triton are in the extra `serving`")

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

pytestmark = pytest.mark.contract

REPOSITORY = ROOT / "model_repository"
EACH_MODEL = pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)


@EACH_MODEL
def test_the_committed_config_is_the_rendered_one(spec: ModelSpec) -> None:
    assert config_path(REPOSITORY, spec).read_text(encoding="utf-8") == render(spec)


@EACH_MODEL
def test_triton_reads_from_the_config_what_the_spec_says(spec: ModelSpec) -> None:
    config = text_format.Parse(config_path(REPOSITORY, spec).read_text(encoding="utf-8"), pb.ModelConfig())
    assert (config.name, config.max_batch_size, config.backend) == (spec.name, spec.max_batch, "python")
    assert [_read(tensor) for tensor in config.input] == [_declared(tensor) for tensor in spec.inputs]
    assert [_read(tensor)[:3] for tensor in config.output] == [_declared(tensor)[:3] for tensor in spec.outputs]


def test_no_folder_of_the_repository_is_without_a_spec() -> None:
    folders = {path.parent for path in REPOSITORY.glob("*/*/config.pbtxt")}
    assert folders == {config_path(REPOSITORY, spec).parent for spec in MODELS}


@EACH_MODEL
def test_the_entry_is_one_import(spec: ModelSpec) -> None:
    entry: Path = config_path(REPOSITORY, spec).parent / "1" / "model.py"
    lines = entry.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 15
    assert sum("import" in line for line in lines) == 1


def _declared(tensor: TensorSpec) -> tuple[str, str, list[int], bool]:
    dtype = "STRING" if tensor.dtype is DType.BYTES else tensor.dtype.value
    return tensor.name, f"TYPE_{dtype}", list(tensor.shape), tensor.optional


def _read(tensor: pb.ModelInput | pb.ModelOutput) -> tuple[str, str, list[int], bool]:
    return tensor.name, pb.DataType.Name(tensor.data_type), list(tensor.dims), getattr(tensor, "optional", False)
