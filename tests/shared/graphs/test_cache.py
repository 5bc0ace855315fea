"""Exported graphs are found only whole, are made once, and a damaged one is made again."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.shared.errors import CorruptFileError, MissingFileError
from services.shared.graphs.cache import GraphRecord, Parity, content_key, ensure_graphs, find_graphs
from services.shared.graphs.spec import ShapeProfile

RECORD = GraphRecord(Parity(1e-6, 1e-7, 2.0), {"x": ShapeProfile((1, 2), (3, 2), (9, 2))})


class Builder:
    """Writes one file, and counts."""

    def __init__(self, content: bytes = b"graph", *, takes_s: float = 0.0) -> None:
        self.builds = 0
        self._content = content
        self._takes_s = takes_s

    def __call__(self, folder: Path) -> Mapping[str, GraphRecord]:
        self.builds += 1
        (folder / "one.onnx").write_bytes(self._content[:2])
        time.sleep(self._takes_s)
        (folder / "one.onnx").write_bytes(self._content)
        return {"one.onnx": RECORD}


@pytest.mark.unit
def test_what_was_built_is_found_again_with_what_is_known_of_it(tmp_path: Path) -> None:
    builder = Builder()
    made = ensure_graphs(tmp_path, "room", "key", builder)
    found = ensure_graphs(tmp_path, "room", "key", builder)
    assert builder.builds == 1
    assert found == made == find_graphs(tmp_path, "room", "key")
    assert found.read("one.onnx") == b"graph"
    assert found.records == {"one.onnx": RECORD}


@pytest.mark.unit
def test_another_key_is_another_build(tmp_path: Path) -> None:
    builder = Builder()
    ensure_graphs(tmp_path, "room", "key", builder)
    ensure_graphs(tmp_path, "room", "other", builder)
    assert builder.builds == 2


@pytest.mark.unit
@pytest.mark.parametrize("file", ["one.onnx", "manifest.json"])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_folder_is_refused_to_readers_and_made_again_by_builders(
    tmp_path: Path, file: str, damage: str
) -> None:
    builder = Builder()
    path = ensure_graphs(tmp_path, "room", "key", builder).path / file
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b'{"graphs": {"one.onnx": {}}}')
    with pytest.raises((CorruptFileError, MissingFileError)):
        find_graphs(tmp_path, "room", "key").read("one.onnx")
    again = ensure_graphs(tmp_path, "room", "key", builder)
    assert builder.builds == 2
    assert again.read("one.onnx") == b"graph"


@pytest.mark.unit
def test_what_was_never_exported_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="not exported"):
        find_graphs(tmp_path, "room", "key")


@pytest.mark.unit
def test_a_failed_build_leaves_nothing_but_its_lock(tmp_path: Path) -> None:
    def failing(folder: Path) -> Mapping[str, GraphRecord]:
        (folder / "one.onnx").write_bytes(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ensure_graphs(tmp_path, "room", "key", failing)
    assert [path.name for path in tmp_path.iterdir()] == ["room-key.lock"]


@pytest.mark.unit
def test_what_a_killed_builder_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".room-key.left" / "fresh"
    left.mkdir(parents=True)
    ensure_graphs(tmp_path, "room", "key", Builder())
    assert not left.parent.exists()


@pytest.mark.unit
def test_of_builders_at_the_same_time_one_builds_and_all_find_the_same(tmp_path: Path) -> None:
    builder = Builder(takes_s=0.05)
    found: list[bytes] = []

    def ask() -> None:
        found.append(ensure_graphs(tmp_path, "room", "key", builder).read("one.onnx"))

    askers = [threading.Thread(target=ask) for _ in range(6)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert builder.builds == 1
    assert found == [b"graph"] * 6


@pytest.mark.unit
def test_a_key_follows_contents_and_names_but_no_places(tmp_path: Path) -> None:
    def lay_out(place: str, *, weight: bytes = b"w", module: str = "a = 1\n", name: str = "m.py") -> str:
        folder = tmp_path / place
        (folder / "code").mkdir(parents=True)
        (folder / "flow.pt").write_bytes(weight)
        (folder / "code" / name).write_text(module)
        (folder / "code" / "notes.txt").write_text(place)
        (folder / "alone.py").write_text("")
        return content_key(files=[folder / "flow.pt"], code=[folder / "code", folder / "alone.py"])

    first = lay_out("a")
    assert lay_out("b") == first
    assert lay_out("c", weight=b"v") != first
    assert lay_out("d", module="a = 2\n") != first
    assert lay_out("e", name="n.py") != first
    with pytest.raises(MissingFileError):
        content_key(files=[tmp_path / "absent"], code=[])
