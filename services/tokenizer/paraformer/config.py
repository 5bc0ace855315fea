"""What a FunASR model folder says about its encoder and front end, read as data.

    configuration.json   names the other files
    config.yaml          sizes of the encoder, parameters of the front end
    am.mvn               shift and scale of the 560 features

Decides which folders this project can run: the sizes are free, the kind of network is not. The decoder, the predictor
and the token list of the folder are never read. Source: FunASR's model folders and the published config.yaml.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from services.shared.errors import CheckpointError, CorruptFileError, ShapeMismatchError
from services.shared.files import read_json, read_yaml, require_file

CONFIGURATION_FILE: Final = "configuration.json"

FEATURE_DIM: Final = 560
"""Seven stacked frames of 80 mel bins."""

_ENCODER_KIND: Final = {
    "input_layer": "pe_online",
    "normalize_before": True,
    "selfattention_layer_type": "sanm",
    "sanm_shfit": 0,
    "kernel_size": 11,
}
_FRONTEND_KIND: Final = {
    "fs": 16000,
    "window": "hamming",
    "n_mels": 80,
    "frame_length": 25,
    "frame_shift": 10,
    "lfr_m": 7,
    "lfr_n": 6,
}


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Sizes of the SAN-M encoder: model size, heads, hidden size of the feed-forward, layers."""

    output_size: int
    attention_heads: int
    linear_units: int
    num_blocks: int


@dataclass(frozen=True, slots=True)
class ParaformerFolder:
    """A model folder, understood.

    Attributes:
        encoder: the encoder's sizes.
        dither: standard deviation of the noise that the folder asks for, in units of 16-bit samples; 0 if it says
            nothing (FunASR's own default is 1, which makes its codes differ from run to run).
        weights: path of the whole model's state dict.
        cmvn: path of the feature normalisation.
    """

    encoder: EncoderConfig
    dither: float
    weights: Path
    cmvn: Path


def read_folder(folder: Path) -> ParaformerFolder:
    """Read a model folder's configuration files.

    Raises:
        MissingFileError, CorruptFileError: a file is absent or no JSON / YAML of the expected form.
        CheckpointError: the folder describes another kind of network.
    """
    configuration_path = folder / CONFIGURATION_FILE
    names = _section(read_json(configuration_path), "file_path_metas", configuration_path)
    config_path = folder / _text(names, "config", configuration_path)
    config = read_yaml(config_path)
    encoder_conf = _section(config, "encoder_conf", config_path)
    frontend_conf = _section(config, "frontend_conf", config_path)
    _require_kind(config, {"encoder": "SANMEncoderChunkOpt", "frontend": "WavFrontendOnline"}, config_path)
    _require_kind(encoder_conf, _ENCODER_KIND, config_path)
    _require_kind(frontend_conf, _FRONTEND_KIND, config_path)
    frontend_names = _section(names, "frontend_conf", configuration_path)
    return ParaformerFolder(
        encoder=_encoder_config(encoder_conf, config_path),
        dither=_dither(frontend_conf, config_path),
        weights=folder / _text(names, "init_param", configuration_path),
        cmvn=folder / _text(frontend_names, "cmvn_file", configuration_path),
    )


def read_cmvn(path: Path) -> tuple[Tensor, Tensor]:
    """Read shift and scale out of a Kaldi network text file (am.mvn).

    Returns:
        (shift [560], scale [560]) float32, to be used as (x + shift) * scale.

    Raises:
        MissingFileError, CorruptFileError, ShapeMismatchError.
    """
    content = require_file(path.parent, path.name).read_text(encoding="utf-8", errors="replace")
    return _kaldi_vector(content, "<AddShift>", path), _kaldi_vector(content, "<Rescale>", path)


def _kaldi_vector(content: str, component: str, path: Path) -> Tensor:
    """The numbers between brackets that follow a component's name: `<AddShift> 560 560 <LearnRateCoef> 0 [ … ]`."""
    _, found, after = content.partition(component)
    body, closed, _ = after.partition("[")[2].partition("]")
    if not (found and closed):
        raise CorruptFileError(f"{path} holds no complete {component} vector; download it again")
    try:
        vector = torch.tensor([float(number) for number in body.split()], dtype=torch.float32)
    except ValueError as error:
        raise CorruptFileError(f"{path}: {component} holds something that is no number ({error})") from error
    if vector.shape != (FEATURE_DIM,):
        raise ShapeMismatchError(f"{path}: {component} holds {len(vector)} numbers, not {FEATURE_DIM}")
    if not vector.isfinite().all():
        raise CorruptFileError(f"{path}: {component} holds NaN or infinity; download it again")
    return vector


def _encoder_config(conf: Mapping[str, Any], path: Path) -> EncoderConfig:
    sizes = {}
    for name in ("output_size", "attention_heads", "linear_units", "num_blocks"):
        value = conf.get(name)
        if not isinstance(value, int) or value < 1:
            raise CorruptFileError(f"{path}: encoder_conf.{name} must be a positive integer, not {value!r}")
        sizes[name] = value
    if sizes["output_size"] % sizes["attention_heads"]:
        raise CorruptFileError(f"{path}: output_size is not divisible by attention_heads")
    return EncoderConfig(**sizes)


def _dither(conf: Mapping[str, Any], path: Path) -> float:
    value = conf.get("dither", 0.0)
    if not isinstance(value, int | float) or not 0.0 <= value < float("inf"):
        raise CorruptFileError(f"{path}: frontend_conf.dither must be a number of at least 0, not {value!r}")
    return float(value)


def _section(content: Any, name: str, path: Path) -> Mapping[str, Any]:  # parsed JSON or YAML: any value
    section = content.get(name) if isinstance(content, Mapping) else None
    if not isinstance(section, Mapping):
        raise CorruptFileError(f"{path} has no section {name}; download it again")
    return section


def _text(section: Mapping[str, Any], name: str, path: Path) -> str:
    value = section.get(name)
    if not isinstance(value, str) or not value:
        raise CorruptFileError(f"{path} does not name its {name} file; download it again")
    return value


def _require_kind(section: Mapping[str, Any], kind: Mapping[str, Any], path: Path) -> None:
    """Refuse a network of another kind; a key that is left out contradicts nothing."""
    for name, expected in kind.items():
        actual = section.get(name, expected)
        if actual != expected:
            raise CheckpointError(f"{path}: {name} is {actual!r}, but only {expected!r} is supported")
