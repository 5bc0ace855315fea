"""The folders of the full-size dry run are the public layout, and its stages are measured and cleared."""

import argparse
import json
from pathlib import Path

import pytest
import torch

from benchmarks.fullsize import __main__ as fullsize
from benchmarks.fullsize import folders
from benchmarks.released.vocoder import FULL_SIZE_YAML
from services.shared.nn.checkpoint import load_strictly
from services.shared.nn.step1 import Step1
from services.shared.step1_config import read_step1_config
from services.tokenizer.paraformer.config import EncoderConfig
from services.tokenizer.paraformer.sanm import SanmEncoder
from services.vocoder.config import parse_text
from services.vocoder.flow import Flow
from services.vocoder.hift import HiFT

pytestmark = pytest.mark.unit


def meta(name: str, prefix: str = "") -> dict[str, torch.Tensor]:
    shapes = folders.read_shapes(name)
    return {key.removeprefix(prefix): torch.empty(shape, device="meta") for key, shape in shapes.items()}


def test_the_recorded_shapes_fill_networks_of_the_written_sizes(tmp_path: Path) -> None:
    config = parse_text(FULL_SIZE_YAML, Path("full"))
    (tmp_path / "config.json").write_text(json.dumps(folders.step1_3b_config(folders.read_shapes("step1_3b"))))
    with torch.device("meta"):
        networks = {
            "flow": Flow(config.flow),
            "hift": HiFT(config.hift),
            "paraformer_encoder": SanmEncoder(EncoderConfig(**folders._ENCODER_YAML)),
            "step1_3b": Step1(read_step1_config(tmp_path)),
        }
    for name, network in networks.items():
        prefix = "encoder." if name == "paraformer_encoder" else ""
        load_strictly(network, meta(name, prefix), Path(name))


def test_random_weights_keep_activations_at_their_size() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = folders.random_tensor("x.weight", (64, 256), generator, torch.float32)
    assert float((torch.randn(100, 256, generator=generator) @ weight.T).std()) == pytest.approx(1.0, abs=0.05)
    assert folders.random_tensor("x.bias", (8,), generator, torch.float32).tolist() == [0.0] * 8
    assert folders.random_tensor("norm.weight", (2,), generator, torch.bfloat16).tolist() == [1.0, 1.0]


def test_a_room_without_memory_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fullsize.NEEDED_MIB, "tts", 10**9)
    (row,) = fullsize.run_room("tts", argparse.Namespace(work=tmp_path, threads=1, keep=False))
    assert not row.ok
    assert "MiB of memory free" in row.told


def test_a_stage_that_fails_ends_its_room_with_the_reason(tmp_path: Path) -> None:
    row = fullsize.measured("tts", "no-such-stage", argparse.Namespace(work=tmp_path, threads=1))
    assert not row.ok
    assert row.told.startswith("FAILED: KeyError")
