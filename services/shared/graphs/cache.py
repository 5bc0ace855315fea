"""A folder of exported graphs, keyed by what they were made of, so that a stale one is never found.

    <cache>/<room>-<key>/          made once, renamed into place when whole
        <graph>.onnx …
        manifest.json              of each file: sha-256, how far it is from torch, shapes that occur
    <cache>/<room>-<key>.lock      held while building: of several builders one builds, the others find its work
    <cache>/.<room>-<key>.…        work under way; what a killed builder left is removed by the next one

A reader checks the bytes that it hands to the runtime against the manifest. What does not match counts as absent to a
builder, who makes it again, and is an error to a reader.

Decides when graphs are good. Refuses to know how they are made or run.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from services.shared.errors import CheckpointError, CorruptFileError, MissingFileError
from services.shared.files import read_json, require_file
from services.shared.graphs.spec import ShapeProfile

MANIFEST_FILE: Final = "manifest.json"
_LAYOUT: Final = "1"
_KEY_CHARACTERS: Final = 24


@dataclass(frozen=True, slots=True)
class Parity:
    """How far a graph is from the torch module that it was made of, over all samples of the check.

    Attributes:
        max_difference: largest absolute difference.
        mean_difference: mean absolute difference.
        scale: largest absolute value of torch's own results.
    """

    max_difference: float
    mean_difference: float
    scale: float


@dataclass(frozen=True, slots=True)
class GraphRecord:
    """What is known of an exported graph.

    Attributes:
        parity: what the check after its export found.
        profiles: input name -> shapes for engines that are compiled ahead.
    """

    parity: Parity
    profiles: Mapping[str, ShapeProfile]


Build = Callable[[Path], Mapping[str, GraphRecord]]
"""Writes graphs into a folder, and says what is known of each file."""


@dataclass(frozen=True, slots=True)
class GraphFolder:
    """Graphs that are whole.

    Attributes:
        path: the folder.
        digests: file name -> sha-256.
        records: file name -> what is known of it.
    """

    path: Path
    digests: Mapping[str, str]
    records: Mapping[str, GraphRecord]

    def read(self, file: str) -> bytes:
        """The bytes of a graph, checked.

        Raises:
            MissingFileError, CorruptFileError: it is absent, or not what was written.
        """
        if file not in self.digests:
            raise MissingFileError(f"{self.path} holds no {file}; export the graphs again")
        content = require_file(self.path, file).read_bytes()
        if hashlib.sha256(content).hexdigest() != self.digests[file]:
            raise CorruptFileError(f"{self.path / file} is damaged; export the graphs again")
        return content


def content_key(*, files: Iterable[Path], code: Iterable[Path]) -> str:
    """A name for what graphs are made of.

    Args:
        files: of the checkpoint, by content and name; where they lie does not matter.
        code: Python modules and folders of them, by content.

    Raises:
        MissingFileError: a file of the checkpoint is absent.
    """
    digest = hashlib.sha256(_LAYOUT.encode())
    for file in files:
        with require_file(file.parent, file.name).open("rb") as opened:
            digest.update(f"{file.name}\0{hashlib.file_digest(opened, 'sha256').hexdigest()}\0".encode())
    for path in code:
        for module in sorted(path.rglob("*.py")) if path.is_dir() else (path,):
            digest.update(f"{module.relative_to(path.parent).as_posix()}\0".encode() + module.read_bytes() + b"\0")
    return digest.hexdigest()[:_KEY_CHARACTERS]


def find_graphs(cache: Path, room: str, key: str) -> GraphFolder:
    """The graphs of a key, unchecked but for their manifest.

    Raises:
        MissingFileError: they were not exported.
        CorruptFileError: the manifest is damaged.
    """
    path = _folder(cache, room, key)
    if not path.is_dir():
        raise MissingFileError(
            f"{path} does not exist: the graphs of this checkpoint and code were not exported; "
            f"run `python -m services.{room}.engine` with this checkpoint and cache"
        )
    manifest = read_json(path / MANIFEST_FILE)
    try:
        return _parse(path, manifest)
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptFileError(f"{path / MANIFEST_FILE} is damaged ({error}); export the graphs again") from error


def ensure_graphs(cache: Path, room: str, key: str, build: Build) -> GraphFolder:
    """The graphs of a key, built if they are absent or damaged.

    Args:
        cache: where graphs are kept.
        room: whose they are.
        key: of checkpoint and code.
        build: called at most once, in one process of all that ask for this key at the same time.

    Raises:
        whatever `build` raises; nothing is left of its work then.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with _lock(cache / f"{room}-{key}.lock"):
        whole = _find_whole(cache, room, key)
        return whole or _build(cache, room, key, build)


def _find_whole(cache: Path, room: str, key: str) -> GraphFolder | None:
    try:
        found = find_graphs(cache, room, key)
        for file in found.digests:
            found.read(file)
    except CheckpointError:
        return None
    return found


def _build(cache: Path, room: str, key: str, build: Build) -> GraphFolder:
    """Build beside the place and swap the folders; the lock is held."""
    work_prefix = f".{room}-{key}."
    for left in cache.glob(f"{work_prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=work_prefix, dir=cache))
    try:
        fresh, target = work / "fresh", _folder(cache, room, key)
        fresh.mkdir()
        _write_manifest(fresh, build(fresh))
        if target.exists():
            target.rename(work / "damaged")
        fresh.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return find_graphs(cache, room, key)


def _write_manifest(folder: Path, records: Mapping[str, GraphRecord]) -> None:
    graphs = {
        file: {"sha256": hashlib.sha256((folder / file).read_bytes()).hexdigest(), **asdict(record)}
        for file, record in records.items()
    }
    (folder / MANIFEST_FILE).write_text(json.dumps({"graphs": graphs}, indent=1) + "\n", encoding="utf-8")


def _parse(path: Path, manifest: Any) -> GraphFolder:  # parsed JSON: any value
    graphs = manifest["graphs"]
    return GraphFolder(
        path,
        {file: entry["sha256"] for file, entry in graphs.items()},
        {file: GraphRecord(Parity(**entry["parity"]), _profiles(entry["profiles"])) for file, entry in graphs.items()},
    )


def _profiles(written: Mapping[str, Mapping[str, list[int]]]) -> dict[str, ShapeProfile]:
    return {
        name: ShapeProfile(tuple(shapes["least"]), tuple(shapes["usual"]), tuple(shapes["most"]))
        for name, shapes in written.items()
    }


def _folder(cache: Path, room: str, key: str) -> Path:
    return cache / f"{room}-{key}"


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a file's lock; the system gives it back when its holder ends, however it ends."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
