"""Random full-size checkpoints in the public layout.

Names and shapes are those recorded from the public files (tests/data/state_dicts), so a loader that takes these folders
takes the public ones. Files whose sizes the recordings do not tell (both ONNX files, the speaker's prompts, the text
tokenizer) are those of the nano checkpoint.

Weights are normal with a deviation of one over the root of what they sum, so that activations stay finite through every
layer; scales and norms are ones, biases zero. They are written in pieces: no more than one tensor is held at a time
where the format allows.
"""

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.released.vocoder import FULL_SIZE_YAML
from services.shared import paths
from services.shared.nn.step1.weights import INDEX_FILE
from services.shared.step1_config import CONFIG_FILE
from services.vocoder.config import CONFIG_FILE as VOCODER_CONFIG_FILE
from services.vocoder.config import FLOW_FILE, HIFT_FILE, SPEAKER_FILE

ROOT: Final = Path(__file__).resolve().parents[2]
NANO: Final = ROOT / "model_repository" / "checkpoints" / "nano"
SHAPES: Final = ROOT / "tests" / "data" / "state_dicts"

STEP1_3B: Final = {
    "architectures": ["Step1ForCausalLM"],
    "model_type": "step1",
    "hidden_size": 3072,
    "num_attention_heads": 48,
    "num_attention_groups": 4,
    "max_seq_len": 32_768,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 3,
    "torch_dtype": "bfloat16",
}
"""What the shapes of the 3B model do not tell; heads of 64, as its 32 KiB of keys and values a token need."""
_SHARD_LAYERS: Final = 8
_ENCODER_YAML: Final = {"output_size": 512, "attention_heads": 4, "linear_units": 2048, "num_blocks": 50}

Shapes = Mapping[str, tuple[int, ...]]


def read_shapes(name: str) -> Shapes:
    """Names and shapes of one network's state dict, as recorded from its public file."""
    recorded = json.loads((SHAPES / f"{name}.json").read_text())
    return {key: tuple(value[0] if value and isinstance(value[0], list) else value) for key, value in recorded.items()}


def random_tensor(name: str, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """A tensor for this place of a network."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if len(shape) < 2 or name.endswith(("weight_g", "alpha")):
        return torch.zeros(shape, dtype=dtype) if name.endswith("bias") else torch.ones(shape, dtype=dtype)
    deviation = 1 / math.sqrt(math.prod(shape[1:]))
    return torch.empty(shape, dtype=dtype).normal_(0, deviation, generator=generator)


def write_vocoder(checkpoints: Path, *, seed: int = 0) -> Path:
    """Flow and HiFT of the public sizes; returns their folder."""
    folder = checkpoints / paths.TTS_FOLDER / paths.VOCODER_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / VOCODER_CONFIG_FILE).write_text(FULL_SIZE_YAML)
    shutil.copy(NANO / paths.TTS_FOLDER / paths.VOCODER_FOLDER / SPEAKER_FILE, folder)
    for network, file in (("flow", FLOW_FILE), ("hift", HIFT_FILE)):
        torch.save(dict(_random(read_shapes(network), seed, torch.float32)), folder / file)
    return folder


def write_tokenizer(checkpoints: Path, *, seed: int = 0) -> Path:
    """The Paraformer encoder of the public size behind nano's other files; returns the tokenizer's folder."""
    folder = checkpoints / paths.TOKENIZER_FOLDER
    shutil.copytree(NANO / paths.TOKENIZER_FOLDER, folder, dirs_exist_ok=True)
    model_folder = folder / paths.PARAFORMER_FOLDER
    config = (model_folder / "config.yaml").read_text()
    for key, value in _ENCODER_YAML.items():
        before, found, after = config.partition(f"\n  {key}: ")
        config = f"{before}{found}{value}\n{after.partition(chr(10))[2]}"
    (model_folder / "config.yaml").write_text(config)
    torch.save(dict(_random(read_shapes("paraformer_encoder"), seed, torch.float32)), model_folder / "model.pt")
    centroids = np.random.default_rng(seed).standard_normal((1024, _ENCODER_YAML["output_size"])).astype(np.float32)
    np.save(folder / paths.CENTROIDS_FILE, centroids)
    return folder


def write_step1_3b(checkpoints: Path, *, seed: int = 0) -> Path:
    """The 3B speech model in bfloat16, in shards of some layers with an index; returns its folder."""
    folder = checkpoints / paths.TTS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.model", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(NANO / paths.TTS_FOLDER / name, folder)
    shutil.copytree(NANO / paths.TTS_FOLDER / paths.SPEAKERS_FOLDER, folder / paths.SPEAKERS_FOLDER, dirs_exist_ok=True)
    shapes = read_shapes("step1_3b")
    (folder / CONFIG_FILE).write_text(json.dumps(step1_3b_config(shapes)))
    shards: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        part = name.split(".")[2] if name.startswith("model.layers.") else name
        shard = str(int(part) // _SHARD_LAYERS) if part.isdigit() else part
        shards.setdefault(f"model-{shard}.safetensors", {})[name] = shape
    for index, (file, members) in enumerate(shards.items()):
        save_file(dict(_random(members, seed + index, torch.bfloat16)), folder / file)
    weight_map = {name: file for file, members in shards.items() for name in members}
    (folder / INDEX_FILE).write_text(json.dumps({"weight_map": weight_map}))
    return folder


def step1_3b_config(shapes: Shapes) -> dict[str, object]:
    """config.json of the 3B model."""
    vocab_size, _ = shapes["model.embed_tokens.weight"]
    intermediate_size, _ = shapes["model.layers.0.mlp.gate_proj.weight"]
    layers = 1 + max(int(name.split(".")[2]) for name in shapes if name.startswith("model.layers."))
    sizes = {"vocab_size": vocab_size, "intermediate_size": intermediate_size, "num_hidden_layers": layers}
    return {**STEP1_3B, **sizes}


def _random(shapes: Shapes, seed: int, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for name, shape in shapes.items():
        yield name, random_tensor(name, shape, generator, dtype)
