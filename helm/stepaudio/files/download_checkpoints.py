"""Fetches checkpoints into a folder, goes on where it stopped, and believes nothing that it has not hashed.

    list     what there is, from a hub's listing or a manifest: path, address, size and hash of each file
    fetch    FILE.part grows from where it ends (HTTP Range); a server that sends all again begins it anew
    check    size and hash of the whole; only then FILE.part becomes FILE, which was never seen half
    again    files that are whole are hashed and skipped

    python download_checkpoints.py --sources sources.json [--manifest manifest.json] --to FOLDER

sources.json: {"from": "huggingface" | "modelscope" | "manifest", "endpoint": URL or "",
               "repositories": [{"name": "owner/model", "revision": "commit"}]}
manifest.json: {"files": [{"path", "url", "sha256", "bytes"}]}

It uses the standard library alone, so any image with Python runs it. HUB_TOKEN, if set, is sent to the hub's own host
and no other. Exit status 1: a file could not be had or is not what the listing says; a further run goes on.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

BLOCK_BYTES = 8 * 2**20
ANSWER_S = 60.0
TRIES = 5
ENDPOINTS = {"huggingface": "https://huggingface.co", "modelscope": "https://www.modelscope.cn"}


class DownloadError(Exception):
    """A file cannot be had, or is not what it should be."""


@dataclass(frozen=True)
class Source:
    """One file.

    Attributes:
        path: below the folder of all checkpoints.
        url: where it is.
        size_bytes: of the whole.
        sha256: of the content, in hex; or empty.
        git_sha1: of the content as git hashes a blob; or empty. One of the two is there.
    """

    path: str
    url: str
    size_bytes: int
    sha256: str = ""
    git_sha1: str = ""


class Hub:
    """Asks the hub. Args: endpoint: its address. token: for its own host, or empty."""

    def __init__(self, endpoint: str, token: str) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._host = urllib.parse.urlsplit(self.endpoint).netloc
        self._token = token

    def open(self, url: str, *, first_byte: int = 0) -> HTTPResponse:
        """Ask for a file from a byte on."""
        request = urllib.request.Request(url, headers={"User-Agent": "stepaudio-download/1"})
        if first_byte:
            request.add_header("Range", f"bytes={first_byte}-")
        if self._token and urllib.parse.urlsplit(url).netloc == self._host:
            # Not sent on to the storage that the hub redirects to.
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        answer: HTTPResponse = urllib.request.urlopen(request, timeout=ANSWER_S)
        return answer

    def json(self, url: str) -> tuple[Any, str]:
        """Read a listing, and the address of its next page."""
        with self.open(url) as answer:
            return json.load(answer), _next_page(answer.headers.get("Link", ""))


def list_files(sources: dict[str, Any], manifest: Path | None, hub: Hub) -> list[Source]:
    """All files that belong into the folder.

    Raises:
        DownloadError: the listing is empty, or a path leads out of the folder.
    """
    if sources["from"] == "manifest":
        if manifest is None:
            raise DownloadError("a manifest is asked for and none is given")
        entries = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        files = [Source(e["path"], e["url"], int(e["bytes"]), sha256=e["sha256"].lower()) for e in entries]
    else:
        ask = {"huggingface": _huggingface, "modelscope": _modelscope}[sources["from"]]
        files = [file for one in sources["repositories"] for file in ask(hub, one["name"], one["revision"])]
    if not files:
        raise DownloadError("there is nothing to fetch")
    for file in files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts or "\\" in file.path:
            raise DownloadError(f"{file.path!r} leads out of the folder")
        if not (file.sha256 or file.git_sha1):
            raise DownloadError(f"{file.path} has no hash in the listing, so it could not be checked")
    return files


def fetch(file: Source, folder: Path, hub: Hub, *, pause_s: float = 2.0) -> bool:
    """Bring one file into the folder.

    Returns:
        Whether anything was fetched.

    Raises:
        DownloadError: it could not be had in several tries, or what came is not it.
    """
    target = folder / file.path
    part = target.with_name(f"{target.name}.part")
    if _is_whole(target, file):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    reason = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(pause_s * 2**attempt)
        try:
            _grow(file, part, hub)
        except (OSError, urllib.error.URLError) as error:  # a connection that broke: what came so far stays
            reason = str(error)
            continue
        if _is_whole(part, file):
            part.replace(target)
            return True
        reason = "its content is not what the listing says"
        part.unlink(missing_ok=True)
    raise DownloadError(f"{file.path}: {reason}")


def main() -> int:
    """List, look whether there is room, fetch."""
    parser = argparse.ArgumentParser(description="Fetch checkpoints.")
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    sources = json.loads(options.sources.read_text(encoding="utf-8"))
    endpoint = sources.get("endpoint") or ENDPOINTS.get(sources["from"], "")
    hub = Hub(endpoint, os.environ.get("HUB_TOKEN", ""))
    try:
        files = list_files(sources, options.manifest, hub)
        _check_room(files, options.to)
        for number, file in enumerate(files, start=1):
            done = "fetched" if fetch(file, options.to, hub) else "is whole"
            _say(sys.stdout, event=done, path=file.path, bytes=file.size_bytes, file=number, files=len(files))
    except (DownloadError, OSError, KeyError, ValueError) as error:
        _say(sys.stderr, event="failed", reason=f"{type(error).__name__}: {error}")
        return 1
    return 0


def _say(where: TextIO, **what: object) -> None:
    """One line of the log."""
    where.write(json.dumps(what) + "\n")
    where.flush()


def _huggingface(hub: Hub, name: str, revision: str) -> Iterator[Source]:
    """Large files state their SHA-256, small ones git's hash."""
    page = f"{hub.endpoint}/api/models/{name}/tree/{urllib.parse.quote(revision, safe='')}?recursive=true"
    while page:
        entries, page = hub.json(page)
        for entry in entries:
            if entry["type"] != "file":
                continue
            large = entry.get("lfs") or {}
            yield Source(
                path=f"{name.partition('/')[2]}/{entry['path']}",
                url=f"{hub.endpoint}/{name}/resolve/{revision}/{urllib.parse.quote(entry['path'])}",
                size_bytes=int(entry["size"]),
                sha256=large.get("oid", ""),
                git_sha1="" if large else entry.get("oid", ""),
            )


def _modelscope(hub: Hub, name: str, revision: str) -> Iterator[Source]:
    query = urllib.parse.urlencode({"Revision": revision, "Recursive": "True"})
    answer, _ = hub.json(f"{hub.endpoint}/api/v1/models/{name}/repo/files?{query}")
    for entry in answer["Data"]["Files"]:
        if entry["Type"] == "tree":
            continue
        wanted = urllib.parse.urlencode({"Revision": revision, "FilePath": entry["Path"]})
        yield Source(
            path=f"{name.partition('/')[2]}/{entry['Path']}",
            url=f"{hub.endpoint}/api/v1/models/{name}/repo?{wanted}",
            size_bytes=int(entry["Size"]),
            sha256=entry.get("Sha256", ""),
        )


def _next_page(link: str) -> str:
    address, _, relation = link.partition(";")
    return address.strip().strip("<>") if 'rel="next"' in relation else ""


def _grow(file: Source, part: Path, hub: Hub) -> None:
    """Append what is missing of a part."""
    have = part.stat().st_size if part.exists() else 0
    if have > file.size_bytes:
        part.unlink()
        have = 0
    if have == file.size_bytes and part.exists():
        return
    with hub.open(file.url, first_byte=have) as answer:
        goes_on = have > 0 and answer.status == 206
        with part.open("ab" if goes_on else "wb") as output:
            shutil.copyfileobj(answer, output, BLOCK_BYTES)
            output.flush()
            os.fsync(output.fileno())
    got = part.stat().st_size
    if got < file.size_bytes:
        raise OSError(f"the connection ended after {got} of {file.size_bytes} bytes")


def _is_whole(path: Path, file: Source) -> bool:
    if not path.is_file() or path.stat().st_size != file.size_bytes:
        return False
    digest = hashlib.sha256() if file.sha256 else hashlib.sha1(usedforsecurity=False)
    if not file.sha256:
        digest.update(b"blob %d\0" % file.size_bytes)
    with path.open("rb") as content:
        while block := content.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest() == (file.sha256 or file.git_sha1)


def _check_room(files: list[Source], folder: Path) -> None:
    """Rather say it now than after some hours."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = 0
    for file in files:
        target = folder / file.path
        part = target.with_name(f"{target.name}.part")
        if not target.is_file():
            missing += file.size_bytes - (part.stat().st_size if part.is_file() else 0)
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise DownloadError(f"{missing} bytes are missing and the volume has {free} bytes free")


if __name__ == "__main__":
    sys.exit(main())
