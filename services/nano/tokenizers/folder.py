"""The Step-Audio-Tokenizer folder: both encoders and their codebooks under the names of the public download.

Decides: which files are written. Refuses to know: how their contents were learned.
"""

import json
from pathlib import Path
from typing import Final

import numpy as np
import torch
import yaml
from torch import Tensor

from services.nano.phones import LABELS
from services.nano.tokenizers.onnx_file import write_onnx
from services.nano.tokenizers.semantic import SemanticNetwork
from services.shared.codec.codebooks import LINGUISTIC_SIZE
from services.shared.paths import CENTROIDS_FILE, PARAFORMER_FOLDER, SEMANTIC_ONNX_FILE
from services.tokenizer.paraformer.sanm import SanmEncoder

USED_CODES: Final = 512
"""Centroids of each codebook; the speech model needs the linguistic codes above for the second of a pair."""
_NEVER_NEAREST: Final = 1e3


def write_linguistic(encoder: SanmEncoder, shift: Tensor, scale: Tensor, centroids: Tensor, folder: Path) -> None:
    """Write the Paraformer folder and linguistic_tokenizer.npy; `centroids` are [512, D], weights become half."""
    model_folder = folder / PARAFORMER_FOLDER
    model_folder.mkdir(parents=True, exist_ok=True)
    torch.save(
        {f"encoder.{name}": value.half() for name, value in encoder.state_dict().items()}, model_folder / "model.pt"
    )
    (model_folder / "am.mvn").write_text(_kaldi_network(shift, scale))
    (model_folder / "tokens.json").write_text(json.dumps(list(LABELS), ensure_ascii=False))
    names = {
        "init_param": "model.pt",
        "config": "config.yaml",
        "tokenizer_conf": {"token_list": "tokens.json"},
        "frontend_conf": {"cmvn_file": "am.mvn"},
    }
    configuration = {"framework": "pytorch", "task": "auto-speech-recognition", "file_path_metas": names}
    (model_folder / "configuration.json").write_text(json.dumps(configuration, indent=1))
    (model_folder / "config.yaml").write_text(yaml.safe_dump(_config(encoder), sort_keys=False))
    table = np.full((LINGUISTIC_SIZE, centroids.shape[1]), _NEVER_NEAREST, np.float32)
    table[: len(centroids)] = centroids.numpy()
    np.save(folder / CENTROIDS_FILE, table)


def write_semantic(network: SemanticNetwork, centroids: Tensor, folder: Path) -> None:
    """Write speech_tokenizer_v1.onnx."""
    folder.mkdir(parents=True, exist_ok=True)
    write_onnx(network, centroids, folder / SEMANTIC_ONNX_FILE)


def _config(encoder: SanmEncoder) -> dict[str, object]:
    sizes = encoder.config
    return {
        "model": "ParaformerStreaming",
        "encoder": "SANMEncoderChunkOpt",
        "encoder_conf": {
            "output_size": sizes.output_size,
            "attention_heads": sizes.attention_heads,
            "linear_units": sizes.linear_units,
            "num_blocks": sizes.num_blocks,
            "input_layer": "pe_online",
            "normalize_before": True,
            "kernel_size": 11,
            "sanm_shfit": 0,
            "selfattention_layer_type": "sanm",
            "chunk_size": [12, 15],
            "stride": [8, 10],
            "pad_left": [0, 0],
            "encoder_att_look_back_factor": [4, 4],
            "decoder_att_look_back_factor": [1, 1],
        },
        "frontend": "WavFrontendOnline",
        "frontend_conf": {
            "fs": 16000,
            "window": "hamming",
            "n_mels": 80,
            "frame_length": 25,
            "frame_shift": 10,
            "lfr_m": 7,
            "lfr_n": 6,
            "dither": 0.0,
        },
    }


def _kaldi_network(shift: Tensor, scale: Tensor) -> str:
    """Shift and scale in the text form of am.mvn."""

    def vector(values: Tensor) -> str:
        return "<LearnRateCoef> 0 [ " + " ".join(f"{value:.8g}" for value in values.tolist()) + " ]"

    size = len(shift)
    parts = ("<Nnet>", f"<AddShift> {size} {size}", vector(shift), f"<Rescale> {size} {size}", vector(scale), "</Nnet>")
    return "\n".join(parts) + "\n"
