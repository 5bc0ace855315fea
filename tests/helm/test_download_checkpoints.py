"""The download of checkpoints: it goes on where it stopped, and keeps nothing that is not what the listing says."""

import hashlib
import importlib.util
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.helm.sets import CHART

pytestmark = pytest.mark.integration

SCRIPT = CHART / "files" / "download_checkpoints.py"
LARGE, SMALL = bytes(range(256)) * 400, b'{"a": 1}\n'
NAME = "stepfun-ai/Step-Audio-Chat"


@dataclass
class FakeHub:
    """A hub on loopback that can break connections and lie.

    Attributes:
        files: content by path in the repository.
        asked: path and range of each request, and whether it had a login.
        cut_after: bytes after which the next answer breaks.
        lie: sent instead of the next file.
        pages: whether the listing comes in two pages.
    """

    files: dict[str, bytes] = field(default_factory=lambda: {"model.safetensors": LARGE, "sub/config.json": SMALL})
    asked: list[tuple[str, str, bool]] = field(default_factory=list)
    cut_after: int = 0
    lie: bytes = b""
    pages: bool = False
    address: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        parts = urlsplit(request.path)
        first = request.headers.get("Range", "")
        self.asked.append((parts.path, first, "Authorization" in request.headers))
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path.startswith("/api/models/"):
            self._huggingface(request, query)
        elif parts.path.endswith("/repo/files"):
            files = [
                {"Path": path, "Type": "blob", "Size": len(data), "Sha256": hashlib.sha256(data).hexdigest()}
                for path, data in self.files.items()
            ]
            self._send(request, json.dumps({"Data": {"Files": [{"Path": "sub", "Type": "tree"}, *files]}}).encode())
        else:
            path = query.get("FilePath") or parts.path.partition("/resolve/c0ffee/")[2]
            data, self.lie = self.lie or self.files[path], b""
            start = int(first.removeprefix("bytes=").removesuffix("-") or 0) if first else 0
            self._send(request, data[start:], status=206 if first else 200)

    def _huggingface(self, request: BaseHTTPRequestHandler, query: dict[str, str]) -> None:
        entries: list[dict[str, Any]] = [{"type": "directory", "path": "sub", "size": 0, "oid": ""}]
        for path, data in self.files.items():
            entry = {"type": "file", "path": path, "size": len(data), "oid": _git_sha1(data)}
            if len(data) > 100:
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest()}
            entries.append(entry)
        if not self.pages:
            self._send(request, json.dumps(entries).encode())
        elif "cursor" in query:
            self._send(request, json.dumps(entries[2:]).encode())
        else:
            link = f'<{self.address}{request.path}&cursor=2>; rel="next"'
            self._send(request, json.dumps(entries[:2]).encode(), link=link)

    def _send(self, request: BaseHTTPRequestHandler, data: bytes, *, status: int = 200, link: str = "") -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(data)))
        if link:
            request.send_header("Link", link)
        request.end_headers()
        if self.cut_after and len(data) > self.cut_after:
            data, self.cut_after = data[: self.cut_after], 0
        request.wfile.write(data)
        request.close_connection = True


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A running hub."""
    fake = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.answer(self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        fake.address = f"http://127.0.0.1:{server.server_address[1]}"
        yield fake
        server.shutdown()


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("download_checkpoints", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["huggingface", "modelscope"])
def test_a_hubs_files_arrive_whole_in_the_folder_of_their_repository(
    script: ModuleType, hub: FakeHub, tmp_path: Path, kind: str
) -> None:
    hub.pages = True
    assert _run(script, hub, tmp_path, kind) == 0
    folder = tmp_path / "to" / "Step-Audio-Chat"
    assert (folder / "model.safetensors").read_bytes() == LARGE
    assert (folder / "sub" / "config.json").read_bytes() == SMALL
    assert not list(folder.rglob("*.part"))


def test_a_second_run_asks_for_no_file(script: ModuleType, hub: FakeHub, tmp_path: Path) -> None:
    assert _run(script, hub, tmp_path, "huggingface") == 0
    hub.asked.clear()
    assert _run(script, hub, tmp_path, "huggingface") == 0
    assert [path for path, _, _ in hub.asked if "/resolve/" in path] == []


def test_a_broken_connection_goes_on_where_it_ended(script: ModuleType, hub: FakeHub, tmp_path: Path) -> None:
    source = _source(script, hub)
    hub.cut_after = 5000
    assert script.fetch(source, tmp_path, _hub(script, hub), pause_s=0.0)
    assert (tmp_path / source.path).read_bytes() == LARGE
    assert [first for path, first, _ in hub.asked] == ["", "bytes=5000-"]


def test_what_is_not_what_the_listing_says_is_fetched_again(script: ModuleType, hub: FakeHub, tmp_path: Path) -> None:
    source = _source(script, hub)
    hub.lie = b"x" * len(LARGE)
    assert script.fetch(source, tmp_path, _hub(script, hub), pause_s=0.0)
    assert (tmp_path / source.path).read_bytes() == LARGE


def test_a_hub_that_keeps_lying_leaves_nothing_behind(script: ModuleType, hub: FakeHub, tmp_path: Path) -> None:
    source = _source(script, hub)
    hub.files["model.safetensors"] = b"x" * len(LARGE)
    with pytest.raises(script.DownloadError, match="not what the listing says"):
        script.fetch(source, tmp_path, _hub(script, hub), pause_s=0.0)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_damaged_file_of_an_earlier_run_is_replaced(script: ModuleType, hub: FakeHub, tmp_path: Path) -> None:
    source = _source(script, hub)
    target = tmp_path / source.path
    target.parent.mkdir(parents=True)
    target.write_bytes(b"y" * len(LARGE))
    assert script.fetch(source, tmp_path, _hub(script, hub), pause_s=0.0)
    assert target.read_bytes() == LARGE


@pytest.mark.parametrize("path", ["../out.bin", "/etc/passwd", "a\\..\\b"])
def test_a_path_that_leads_out_of_the_folder_is_refused(
    script: ModuleType, hub: FakeHub, tmp_path: Path, path: str
) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"files": [{"path": path, "url": "https://x", "sha256": "0" * 64, "bytes": 1}]}))
    with pytest.raises(script.DownloadError, match="leads out"):
        script.list_files({"from": "manifest"}, manifest, _hub(script, hub))


def test_a_manifest_fetches_from_any_address_without_the_hubs_login(
    script: ModuleType, hub: FakeHub, tmp_path: Path
) -> None:
    manifest = tmp_path / "manifest.json"
    entry = {"path": "a/b.bin", "url": f"{hub.address}/x/resolve/c0ffee/model.safetensors", "bytes": len(LARGE)}
    manifest.write_text(json.dumps({"files": [{**entry, "sha256": hashlib.sha256(LARGE).hexdigest()}]}))
    client = script.Hub("https://hub.example.org", "secret")
    (source,) = script.list_files({"from": "manifest"}, manifest, client)
    assert script.fetch(source, tmp_path / "to", client, pause_s=0.0)
    assert hub.asked[-1][2] is False


def test_the_login_goes_to_the_hub_itself(script: ModuleType, hub: FakeHub, tmp_path: Path) -> None:
    script.list_files(_sources(hub, "huggingface"), None, script.Hub(hub.address, "secret"))
    assert all(login for _, _, login in hub.asked)


def test_a_full_volume_is_told_before_anything_is_fetched(
    script: ModuleType, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.files["model.safetensors"] = LARGE
    huge = script.Source("x", "https://x", 2**62, sha256="0" * 64)
    with pytest.raises(script.DownloadError, match="bytes free"):
        script._check_room([huge], tmp_path)


def test_what_fails_ends_the_job_with_a_reason(
    script: ModuleType, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.files.clear()
    assert _run(script, hub, tmp_path, "huggingface") == 1
    assert "there is nothing to fetch" in capsys.readouterr().err


def _run(script: ModuleType, hub: FakeHub, tmp_path: Path, kind: str) -> int:
    sources = tmp_path / "sources.json"
    sources.write_text(json.dumps(_sources(hub, kind)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["download", "--sources", str(sources), "--to", str(tmp_path / "to")])
        status: int = script.main()
    return status


def _sources(hub: FakeHub, kind: str) -> dict[str, Any]:
    return {"from": kind, "endpoint": hub.address, "repositories": [{"name": NAME, "revision": "c0ffee"}]}


def _source(script: ModuleType, hub: FakeHub) -> Any:
    (source, _) = script.list_files(_sources(hub, "huggingface"), None, _hub(script, hub))
    hub.asked.clear()
    return source


def _hub(script: ModuleType, hub: FakeHub) -> Any:
    return script.Hub(hub.address, "")


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
