"""What pip of this machine is told (indexes, folders of wheels, authorities), so that pip in a build is told the same.

An image never keeps any of it: it is mounted while a RUN runs, and gone after.
"""

import ast
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

PLACE: Final = "/pip"
"""Where the folder of settings is seen in the namespaces, and in a build."""
_KEYS: Final = ("index-url", "extra-index-url", "find-links", "cert", "default-timeout")
_CERTIFICATE: Final = "authorities.pem"


@dataclass(frozen=True, slots=True)
class PipSettings:
    """Of one machine.

    Attributes:
        folder: with pip.conf, and the authorities where they are named.
        local: folders that the settings name; they are seen at the same place.
        extra_index: the first further index; '' for none.
    """

    folder: Path
    local: tuple[Path, ...]
    extra_index: str

    def build_arguments(self) -> list[str]:
        """What `podman build` is told."""
        volumes = [f"{PLACE}:{PLACE}:ro", f"{PLACE}/pip.conf:/etc/pip.conf:ro"]
        volumes += [f"{one}:{one}:ro" for one in self.local]
        index = ["--build-arg", f"TORCH_INDEX={self.extra_index}"] if self.extra_index else []
        return [*(f"--volume={one}" for one in volumes), *index]


def read_pip_settings(folder: Path) -> PipSettings:
    """Ask pip, and write down what it says.

    Args:
        folder: to write into.
    """
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return write_pip_settings(listed.stdout, folder)


def write_pip_settings(listed: str, folder: Path) -> PipSettings:
    """Turn what `pip config list` says into settings for a build.

    Args:
        listed: lines such as `global.index-url='...'`; what the environment says comes last and wins, as in pip.
        folder: to write into; it is made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, str] = {}
    lines = sorted(listed.splitlines(), key=lambda line: line.startswith(":env:"))
    for line in lines:
        name, _, value = line.partition("=")
        if (key := name.rpartition(".")[2]) in _KEYS:
            found[key] = str(ast.literal_eval(value))
    local = tuple(
        place
        for key in ("extra-index-url", "find-links", "index-url")
        for word in found.get(key, "").split()
        if (place := _folder(word)) is not None
    )
    if "cert" in found:
        shutil.copyfile(found["cert"], folder / _CERTIFICATE)
        found["cert"] = f"{PLACE}/{_CERTIFICATE}"
    text = "".join(f"{key} = {value}\n" for key, value in found.items())
    (folder / "pip.conf").write_text(f"[global]\n{text}", encoding="utf-8")
    further = found.get("extra-index-url", "").split()
    return PipSettings(folder, tuple(dict.fromkeys(local)), further[0] if further else "")


def _folder(word: str) -> Path | None:
    """The folder that a link needs; an index links to files beside it. None where it is not on this machine."""
    parts = urlsplit(word)
    if parts.scheme == "file":
        return Path(parts.path).parent
    return Path(word) if not parts.scheme and Path(word).is_dir() else None
