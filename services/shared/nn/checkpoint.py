"""Reading the weights of a checkpoint folder, with errors that name the file and what to do.

Weights are data: pickles are read with `weights_only`, and nothing found in one is ever executed. What a tensor means
is the rooms' business; this module only brings it in, whole or not at all.
"""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from services.shared.errors import CorruptFileError, ShapeMismatchError
from services.shared.files import require_file

_NAMES_SHOWN = 4


def read_torch_state(path: Path) -> dict[str, Tensor]:
    """Read a plain state dict saved by `torch.save`, without executing anything in it.

    Returns:
        name -> tensor, on the CPU in the stored dtype. One level of wrapping under "state_dict" or
        "model_state_dict" is opened (FunASR saves both ways).

    Raises:
        MissingFileError, CorruptFileError: also for a pickle that holds anything but tensors by name.
    """
    require_file(path.parent, path.name)
    try:
        with warnings.catch_warnings():  # torch warns of a foreign pickle before it refuses it
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise CorruptFileError(
            f"{path} is truncated or is no plain state dict ({_first_line(error)}); download it again"
        ) from error
    if isinstance(content, Mapping):
        for key in ("state_dict", "model_state_dict"):
            if isinstance(content.get(key), Mapping):
                content = content[key]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise CorruptFileError(f"{path} holds no plain state dict (a mapping of names to tensors); download it again")
    return dict(content)


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    """Copy `state` into `module`, converting to the module's dtype; every name and shape must match.

    Args:
        module: the module to fill, its parameters real (not meta).
        state: name -> tensor.
        source: the file, for the message.

    Raises:
        ShapeMismatchError: a tensor is missing, unexpected or of a wrong shape.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    wrong = [
        f"{name} is {list(state[name].shape)}, not {list(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    complaints = [
        f"{title}: {_some(names)}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", wrong))
        if names
    ]
    if complaints:
        raise ShapeMismatchError(
            f"{source} does not fit the configuration beside it ({'; '.join(complaints)}); "
            "use the configuration that belongs to these weights"
        )
    module.load_state_dict(dict(state))


def _some(names: list[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
