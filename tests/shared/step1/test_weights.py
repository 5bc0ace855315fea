"""Loading: whole or not at all, with the file and the tensor named."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from services.shared.errors import CorruptFileError, MissingFileError, ShapeMismatchError
from services.shared.nn.step1 import Step1, load_step1
from tests.conftest import DATA
from tests.shared.step1.sizes import TTS_3B
from tests.shared.step1.tiny import tiny_step1, write_checkpoint

pytestmark = pytest.mark.unit

IDS = torch.randint(40, (1, 10), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def state() -> dict[str, Tensor]:
    return dict(tiny_step1().state_dict())


def test_names_and_shapes_of_the_full_size_model_are_the_published_ones() -> None:
    with torch.device("meta"):
        model = Step1(TTS_3B)
    published = json.loads((DATA / "state_dicts" / "step1_3b.json").read_text())
    assert {name: list(tensor.shape) for name, tensor in model.state_dict().items()} == published
    assert sum(parameter.numel() for parameter in model.parameters()) == 3_529_706_496


def test_one_file_and_shards_give_the_same_model(tmp_path: Path, state: dict[str, Tensor]) -> None:
    expected = tiny_step1().logits(IDS)
    for shards in (1, 3):
        folder = tmp_path / str(shards)
        folder.mkdir()
        assert torch.equal(load_step1(write_checkpoint(folder, state, shards=shards)).logits(IDS), expected)


def test_a_head_in_the_file_is_used(tmp_path: Path, state: dict[str, Tensor]) -> None:
    state["lm_head.weight"] = torch.zeros_like(state["lm_head.weight"])
    assert load_step1(write_checkpoint(tmp_path, state)).logits(IDS).abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shards", [1, 2])
def test_without_a_head_the_embedding_is_the_head(
    tmp_path: Path, state: dict[str, Tensor], dtype: torch.dtype, shards: int
) -> None:
    del state["lm_head.weight"]
    model = load_step1(write_checkpoint(tmp_path, state, shards=shards), dtype=dtype)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert torch.equal(model.lm_head.weight, state["model.embed_tokens.weight"].to(dtype))


def test_half_precision_files_are_brought_to_the_asked_dtype(tmp_path: Path, state: dict[str, Tensor]) -> None:
    model = load_step1(write_checkpoint(tmp_path, {name: tensor.half() for name, tensor in state.items()}))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name].half().float()), name
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_tensors_of_the_wanted_dtype_stay_mapped(tmp_path: Path, state: dict[str, Tensor]) -> None:
    model = load_step1(write_checkpoint(tmp_path, state))
    path = str(tmp_path / "model.safetensors")
    assert any(path in line for line in Path("/proc/self/maps").read_text().splitlines())
    assert model.lm_head.weight.is_contiguous()


def test_renamed_lost_and_misshapen_tensors_are_listed(tmp_path: Path, state: dict[str, Tensor]) -> None:
    state["model.layers.0.self_attn.query.weight"] = state.pop("model.layers.0.self_attn.q_proj.weight")
    state["model.norm.weight"] = torch.ones(23)
    with pytest.raises(ShapeMismatchError) as caught:
        load_step1(write_checkpoint(tmp_path, state))
    for part in (
        "model.safetensors",
        "missing: model.layers.0.self_attn.q_proj.weight",
        "unexpected: model.layers.0.self_attn.query.weight",
        "model.norm.weight is [23], not [24]",
    ):
        assert part in str(caught.value)


def test_a_checkpoint_without_the_embedding_is_refused_by_name(tmp_path: Path, state: dict[str, Tensor]) -> None:
    del state["model.embed_tokens.weight"]
    with pytest.raises(ShapeMismatchError, match=r"missing: model\.embed_tokens\.weight"):
        load_step1(write_checkpoint(tmp_path, state))


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_a_truncated_file_is_named(tmp_path: Path, state: dict[str, Tensor], keep: int) -> None:
    path = write_checkpoint(tmp_path, state) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CorruptFileError, match=r"model\.safetensors is truncated"):
        load_step1(tmp_path)


def test_a_missing_shard_is_named_with_its_index(tmp_path: Path, state: dict[str, Tensor]) -> None:
    write_checkpoint(tmp_path, state, shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(MissingFileError, match=r"model-00002-of-00003\.safetensors is missing.*index\.json lists it"):
        load_step1(tmp_path)


@pytest.mark.parametrize(
    "index",
    [
        "{",
        "[]",
        "{}",
        '{"weight_map": {}}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "../model.safetensors"}}',
        '{"weight_map": {"a": "model.bin"}}',
    ],
)
def test_an_index_that_leads_nowhere_safe_is_refused(tmp_path: Path, state: dict[str, Tensor], index: str) -> None:
    write_checkpoint(tmp_path, state, shards=2)
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CorruptFileError, match=r"index\.json"):
        load_step1(tmp_path)


def test_pickled_weights_are_not_opened(tmp_path: Path, state: dict[str, Tensor]) -> None:
    (write_checkpoint(tmp_path, state) / "model.safetensors").rename(tmp_path / "old")
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(MissingFileError, match=r"model\.safetensors is missing"):
        load_step1(tmp_path)
    torch.save(state, tmp_path / "model.safetensors")
    with pytest.raises(CorruptFileError, match="no safetensors file"):
        load_step1(tmp_path)


def test_a_tensor_of_integers_is_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    state["model.norm.weight"] = torch.ones(24, dtype=torch.int8)
    write_checkpoint(tmp_path, state)
    with pytest.raises(CorruptFileError, match=r"model\.norm\.weight"):
        load_step1(tmp_path)
