"""Step1 from a checkpoint folder: one model.safetensors, or shards with an index.

Weights come from safetensors only; pickles are not opened. Names and shapes are compared with the configuration from
the files' headers, before a number is read. Tensors stay memory-mapped where the stored dtype is the wanted one. Where
they must be copied, matrices are copied into the column-major order in which a product with few rows is about twice as
fast on a CPU.

Source: the public layout (model.safetensors, or model.safetensors.index.json with a "weight_map").
"""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from services.shared.errors import CorruptFileError, MissingFileError
from services.shared.files import read_json, require_file
from services.shared.nn.checkpoint import load_strictly
from services.shared.nn.step1.model import Step1
from services.shared.step1_config import read_step1_config

WEIGHTS_FILE: Final = "model.safetensors"
INDEX_FILE: Final = "model.safetensors.index.json"

_HEAD: Final = "lm_head.weight"
_EMBEDDING: Final = "model.embed_tokens.weight"
_FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})


def load_step1(folder: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Step1:
    """Load the model of a checkpoint folder (Step-Audio-Chat or Step-Audio-TTS-3B).

    The head is `lm_head.weight` where the files hold one, else the embedding.

    Args:
        folder: holds config.json and the safetensors files.
        device: where the weights go.
        dtype: what they become.

    Returns:
        The model, frozen and ready.

    Raises:
        MissingFileError: a file is absent; a missing shard is named with the index that lists it.
        CorruptFileError: a file is damaged, or config.json does not describe a Step1 model.
        ShapeMismatchError: a tensor is missing, unexpected or of a wrong shape.
    """
    root = Path(folder)
    config = read_step1_config(root)
    with torch.device("meta"):
        model = Step1(config)
    files = _find_files(root)
    _check_names_and_shapes(model, files, root)
    state = {name: _placed(name, tensor, device, dtype) for path in files for name, tensor in _tensors(path)}
    state.setdefault(_HEAD, state[_EMBEDDING])
    model.load_state_dict(state, assign=True)
    if state[_HEAD] is state[_EMBEDDING]:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model.requires_grad_(False).eval()


def _find_files(root: Path) -> list[Path]:
    """The safetensors files that make up the model; each exists."""
    index = root / INDEX_FILE
    if (root / WEIGHTS_FILE).is_file() or not index.is_file():
        return [require_file(root, WEIGHTS_FILE)]
    content = read_json(index)
    weight_map = content.get("weight_map") if isinstance(content, Mapping) else None
    if not isinstance(weight_map, Mapping) or not weight_map or not all(map(_is_plain_name, weight_map.values())):
        raise CorruptFileError(f"{index} has no weight_map of tensor names to file names; download it again")
    shards = [root / name for name in sorted(set(weight_map.values()))]
    for shard in shards:
        if not shard.is_file():
            raise MissingFileError(f"{shard} is missing, but {index.name} lists it; download that shard")
    return shards


def _is_plain_name(name: object) -> bool:
    """Whether an index entry names a file of the folder itself: an index must not lead out of it."""
    return isinstance(name, str) and name.endswith(".safetensors") and PurePath(name).name == name


def _check_names_and_shapes(model: Step1, files: list[Path], root: Path) -> None:
    stored = {name: shape for path in files for name, shape in _shapes(path)}
    if _EMBEDDING in stored:
        stored.setdefault(_HEAD, stored[_EMBEDDING])
    source = files[0] if len(files) == 1 else root / INDEX_FILE
    load_strictly(model, {name: torch.empty(shape, device="meta") for name, shape in stored.items()}, source)


def _shapes(path: Path) -> Iterator[tuple[str, list[int]]]:
    with _opened(path) as file:
        for name in file.keys():  # noqa: SIM118 - a handle, not a mapping
            stored = file.get_slice(name)
            if stored.get_dtype() not in _FLOATS:
                raise CorruptFileError(
                    f"{path}: {name} is stored as {stored.get_dtype()}; quantized weights are not read, "
                    "use a checkpoint in half or full precision"
                )
            yield name, stored.get_shape()


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    with _opened(path) as file:
        for name in file.keys():  # noqa: SIM118 - a handle, not a mapping
            yield name, file.get_tensor(name)


def _opened(path: Path) -> Any:  # the library has no type for the handle it returns
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CorruptFileError(f"{path} is truncated or no safetensors file ({error}); download it again") from error


def _placed(name: str, tensor: Tensor, device: str | torch.device, dtype: torch.dtype) -> Tensor:
    if tensor.dtype == dtype or tensor.ndim != 2 or name == _EMBEDDING:
        return tensor.to(device=device, dtype=dtype)
    by_columns = torch.empty(tensor.shape[::-1], device=device, dtype=dtype)
    return by_columns.copy_(tensor.t()).t()
