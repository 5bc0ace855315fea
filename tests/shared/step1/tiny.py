"""A small random Step1 and its checkpoint folder, for tests that need no trained weights."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from services.shared.nn.step1 import Step1, Step1Config

TINY_CONFIG: dict[str, Any] = {
    "model_type": "step1",
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_attention_heads": 6,
    "num_attention_groups": 2,
    "num_hidden_layers": 2,
    "vocab_size": 40,
    "max_seq_len": 64,
    "rms_norm_eps": 1e-5,
    "eos_token_id": 3,
}
"""Six heads: their number is no power of two, and three share a key/value head."""


def tiny_step1(seed: int = 0) -> Step1:
    """A model of TINY_CONFIG whose logits differ enough that rounding decides nothing."""
    config = Step1Config(
        **{key: TINY_CONFIG[key] for key in TINY_CONFIG if key not in ("model_type", "eos_token_id")}, eos_ids=(3,)
    )
    model = Step1(config)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=1.0, generator=generator)
    return model.requires_grad_(False).eval()


def write_checkpoint(
    folder: Path, state: dict[str, Tensor], *, config: dict[str, Any] | None = None, shards: int = 1
) -> Path:
    """Write config.json and the tensors, in one file or in shards with an index."""
    (folder / "config.json").write_text(json.dumps(TINY_CONFIG if config is None else config))
    tensors = {name: tensor.clone().contiguous() for name, tensor in state.items()}
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        names = sorted(tensors)[shard::shards]
        save_file({name: tensors[name] for name in names}, folder / file)
        weight_map |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder
