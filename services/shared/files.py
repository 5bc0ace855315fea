"""Reading the plain files of a checkpoint folder, with errors that name the file and what to do. No torch.

Configurations are data: YAML goes through a safe loader, and nothing found in a folder is ever executed.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from services.shared.errors import CorruptFileError, MissingFileError


def require_file(folder: Path, name: str) -> Path:
    """Return `folder/name`.

    Raises:
        MissingFileError: the folder or the file is absent.
    """
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is not a folder; download the checkpoint or correct the path")
    path = folder / name
    if not path.is_file():
        raise MissingFileError(f"{path} is missing; download the checkpoint again or correct the path")
    return path


def read_json(path: Path) -> Any:
    """Parse a JSON file (any JSON value).

    Raises:
        MissingFileError, CorruptFileError.
    """
    try:
        return json.loads(require_file(path.parent, path.name).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"{path} is not valid JSON ({error}); download it again") from error


def read_yaml(path: Path, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Parse a YAML file with a safe loader (or a subclass of it).

    Raises:
        MissingFileError, CorruptFileError.
    """
    text = require_file(path.parent, path.name).read_bytes()
    try:
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"{path} is not valid YAML ({error}); download it again") from error
