"""The sizes of a Step1 model, read from the checkpoint's config.json and checked.

Nothing about a model's size is known here: whatever the file does not say either has a default in the released
configuration class, given below, or is an error that names the key.

Source: config.json of the public checkpoints; configuration_step1.py for the defaults.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.shared.errors import CorruptFileError
from services.shared.files import read_json

CONFIG_FILE: Final = "config.json"

_MODEL_TYPE: Final = "step1"
_DEFAULT_RMS_NORM_EPS: Final = 1e-5
_DEFAULT_EOS_ID: Final = 3


@dataclass(frozen=True, slots=True)
class Step1Config:
    """Sizes of one model.

    Attributes:
        hidden_size: D.
        intermediate_size: width of the gated feed-forward.
        num_attention_heads: H, divides hidden_size.
        num_attention_groups: G key/value heads, divides num_attention_heads.
        num_hidden_layers: layers.
        vocab_size: V.
        max_seq_len: longest sequence, prompt and reply together, in tokens.
        rms_norm_eps: epsilon of every RMSNorm.
        eos_ids: ids that end a sequence.
    """

    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_attention_groups: int
    num_hidden_layers: int
    vocab_size: int
    max_seq_len: int
    rms_norm_eps: float
    eos_ids: tuple[int, ...]

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def heads_per_group(self) -> int:
        """Query heads that share one key/value head."""
        return self.num_attention_heads // self.num_attention_groups


def read_step1_config(folder: str | Path) -> Step1Config:
    """Read `folder/config.json`.

    Raises:
        MissingFileError: the file is absent.
        CorruptFileError: it is no JSON, or a key is absent, of a wrong type or out of range; the message names it.
    """
    path = Path(folder) / CONFIG_FILE
    values = read_json(path)
    try:
        return _parse(values)
    except ValueError as error:
        raise CorruptFileError(f"{path}: {error}; use the config.json that belongs to these weights") from error


def _parse(values: object) -> Step1Config:
    if not isinstance(values, Mapping):
        raise ValueError("not a JSON object")
    if values.get("model_type", _MODEL_TYPE) != _MODEL_TYPE:
        raise ValueError(f"model_type is {values['model_type']!r}, not {_MODEL_TYPE!r}")
    config = Step1Config(
        hidden_size=_positive(values, "hidden_size"),
        intermediate_size=_positive(values, "intermediate_size"),
        num_attention_heads=_positive(values, "num_attention_heads"),
        num_attention_groups=_positive(values, "num_attention_groups"),
        num_hidden_layers=_positive(values, "num_hidden_layers"),
        vocab_size=_positive(values, "vocab_size"),
        max_seq_len=_positive(values, "max_seq_len"),
        rms_norm_eps=_epsilon(values),
        eos_ids=_eos_ids(values),
    )
    _check_divides(values, "num_attention_heads", "hidden_size")
    _check_divides(values, "num_attention_groups", "num_attention_heads")
    if not all(0 <= token < config.vocab_size for token in config.eos_ids):
        raise ValueError(f"eos_token_id {list(config.eos_ids)} is outside the vocabulary of {config.vocab_size}")
    return config


def _positive(values: Mapping[str, Any], key: str) -> int:
    if key not in values:
        raise ValueError(f"{key} is absent")
    value = values[key]
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ValueError(f"{key} is {value!r}, not a positive integer")
    return value


def _epsilon(values: Mapping[str, Any]) -> float:
    value = values.get("rms_norm_eps", _DEFAULT_RMS_NORM_EPS)
    if not isinstance(value, int | float) or isinstance(value, bool) or not (math.isfinite(value) and value > 0):
        raise ValueError(f"rms_norm_eps is {value!r}, not a positive number")
    return float(value)


def _eos_ids(values: Mapping[str, Any]) -> tuple[int, ...]:
    """One id, or a list of ids as later configurations of the field write it."""
    value = values.get("eos_token_id", _DEFAULT_EOS_ID)
    ids = value if isinstance(value, list) else [value]
    if not ids or not all(isinstance(token, int) and not isinstance(token, bool) for token in ids):
        raise ValueError(f"eos_token_id is {value!r}, not an id or a list of ids")
    return tuple(ids)


def _check_divides(values: Mapping[str, Any], part: str, whole: str) -> None:
    if values[whole] % values[part]:
        raise ValueError(f"{part} {values[part]} does not divide {whole} {values[whole]}")
