"""The public checkpoints without their custom code.

Their config.json names Python files of the checkpoint in `auto_map`, which transformers and vLLM would fetch and run
where remote code is trusted. It never is here: the class below is registered for model type `step1`, and vLLM has the
network itself.

Source: config.json of the public checkpoints; vLLM's Step1ForCausalLM.
"""

from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PretrainedConfig

from services.shared.errors import CorruptFileError, MissingFileError
from services.shared.files import read_json

ARCHITECTURE: Final = "Step1ForCausalLM"
_MODEL_TYPE: Final = "step1"
_HEAD: Final = "lm_head.weight"
_WEIGHTS_FILE: Final = "model.safetensors"
_INDEX_FILE: Final = "model.safetensors.index.json"


class Step1HfConfig(PretrainedConfig):
    """config.json of a Step1 model as transformers holds it: every key an attribute, nothing computed."""

    model_type = _MODEL_TYPE


def register_step1() -> None:
    """Make `step1` known to transformers, so that no code of a checkpoint is asked for."""
    AutoConfig.register(_MODEL_TYPE, Step1HfConfig, exist_ok=True)


def config_overrides(folder: Path) -> dict[str, Any]:
    """What vLLM must believe of a checkpoint whatever its config.json leaves out.

    The head is `lm_head.weight` where the files hold one, else the embedding; vLLM would go by a key of config.json
    that may be absent.

    Raises:
        MissingFileError: there are no weights.
        CorruptFileError: the weights or their index cannot be read.
    """
    return {"architectures": [ARCHITECTURE], "tie_word_embeddings": _HEAD not in _tensor_names(folder)}


def _tensor_names(folder: Path) -> frozenset[str]:
    weights, index = folder / _WEIGHTS_FILE, folder / _INDEX_FILE
    if not weights.is_file() and index.is_file():
        content = read_json(index)
        weight_map = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(weight_map, dict):
            raise CorruptFileError(f"{index} has no weight_map of tensor names to file names; download it again")
        return frozenset(weight_map)
    if not weights.is_file():
        raise MissingFileError(f"{weights} is missing, and {_INDEX_FILE} too; download the checkpoint")
    try:
        with safe_open(weights, framework="pt") as file:
            return frozenset(file.keys())
    except (SafetensorError, OSError) as error:
        raise CorruptFileError(f"{weights} is truncated or no safetensors file ({error}); download it again") from error
