"""The committed stubs and the document are what the .proto files say, and the rules for those files bite."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from protos import toolchain

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(
        find_spec("grpc_tools") is None or find_spec("mypy_protobuf") is None,
        reason="the compiler of the API is not installed; the lint extra has it",
    ),
]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the .proto files, to be spoiled."""
    shutil.copytree(toolchain.SOURCE / "stepaudio", tmp_path / "stepaudio")
    return tmp_path


def edit(source: Path, file: str, old: str, new: str) -> None:
    path = source / "stepaudio" / "v1" / file
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def files(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def test_the_committed_stubs_are_what_the_proto_files_generate(tmp_path: Path) -> None:
    toolchain.write_stubs(tmp_path / "gen")
    fresh, committed = files(tmp_path / "gen"), files(toolchain.STUBS)
    drifted = sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))
    assert not drifted, "run `make protos`"


def test_the_document_has_the_errors_of_the_proto_file() -> None:
    assert toolchain.API_DOC.read_text(encoding="utf-8") == toolchain.document_with_errors(), "run `make protos`"


def test_the_proto_files_keep_the_rules() -> None:
    assert toolchain.lint() == ""


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("  // Its name: 1 to 64 of the letters a to z and A to Z, digits, `_` and `-`.\n", "", "comment"),
        ("string call_id = 1;\n  // How it ended.", "string callId = 1;\n  // How it ended.", "lower_snake_case"),
        ("  // At most 64, with different names.\n", "    // At most 64, with different names.\n", "@@"),
    ],
    ids=["no comment", "no field's name", "no format"],
)
def test_lint_refuses(copied: Path, old: str, new: str, finding: str) -> None:
    edit(copied, "events.proto" if "callId" in new else "tools.proto", old, new)
    assert finding in toolchain.lint(copied)


def test_a_field_may_be_added(copied: Path) -> None:
    edit(copied, "audio.proto", "int32 sample_rate_hz = 2;", "int32 sample_rate_hz = 2;\n  // New.\n  int32 more = 3;")
    assert toolchain.breaking_between(toolchain.SOURCE, copied) == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("int32 sample_rate_hz = 2;", "int32 sample_rate_hz = 3;"),
        ("int32 sample_rate_hz = 2;", "int64 sample_rate_hz = 2;"),
        ("  int32 sample_rate_hz = 2;", ""),
        ("AUDIO_ENCODING_ALAW = 4;", "AUDIO_ENCODING_G711A = 4;"),
    ],
    ids=["another number", "another type", "no field", "another value's name"],
)
def test_a_change_that_breaks_clients_is_refused(copied: Path, old: str, new: str) -> None:
    edit(copied, "audio.proto", old, new)
    assert "stepaudio/v1/audio.proto" in toolchain.breaking_between(toolchain.SOURCE, copied)


def test_a_file_that_does_not_compile_is_named(copied: Path) -> None:
    edit(copied, "audio.proto", "int32 sample_rate_hz = 2;", "int32 sample_rate_hz = ;")
    with pytest.raises(toolchain.ToolError, match=r"audio\.proto"):
        toolchain.lint(copied)


def test_an_unknown_revision_is_named() -> None:
    with pytest.raises(toolchain.ToolError, match="no-such-revision"):
        toolchain.breaking("no-such-revision")
