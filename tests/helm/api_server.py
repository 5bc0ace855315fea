"""A stand-in for the Kubernetes API server: it keeps objects, finds them again and forgets them. Nothing else happens.

    discovery   the groups, versions and kinds that it was told of
    objects     GET, POST, PUT, PATCH (server-side apply takes the whole object), DELETE, lists by labels

No controller acts, nothing is validated or defaulted, and nobody is authenticated: what helm does to a cluster is seen,
and not what the cluster makes of it.
"""

import base64
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import yaml

Resource = dict[str, Any]  # an object is whatever Kubernetes takes

_PLURALS: Final = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses"}
_PROTOBUF: Final = b"k8s\0"
_DELIMITED: Final = 2
_VERBS: Final = ["create", "delete", "get", "list", "patch", "update", "watch", "deletecollection"]


def plural(kind: str) -> str:
    """The name of a kind in addresses."""
    return _PLURALS.get(kind, f"{kind.lower()}s")


class ApiServer:
    """The objects. Args: kinds: apiVersion and kind of all that there is.

    Attributes:
        objects: by address.
        changes: method and address of every request that changed something.
    """

    def __init__(self, kinds: set[tuple[str, str]]) -> None:
        self.objects: dict[str, Resource] = {}
        self.changes: list[tuple[str, str]] = []
        self._kinds = kinds | {("v1", "Secret"), ("v1", "Namespace")}
        self._version = 0
        self._lock = threading.Lock()

    def names(self, kind: str) -> set[str]:
        """Names of the objects of a kind."""
        return {one["metadata"]["name"] for one in self.objects.values() if one["kind"] == kind}

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Serve on loopback; give the address."""
        state = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet, which the other side then need not wait for

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def _any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                status, answer = state.handle(self.command, self.path, self.rfile.read(length))
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815 - http.server's names

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            server.block_on_close = False
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}"
            finally:
                server.shutdown()
                thread.join()

    def handle(self, method: str, target: str, body: bytes) -> tuple[int, Resource]:
        """Answer one request."""
        parts = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if (found := self._discovery(parts.path)) is not None:
            return 200, found
        with self._lock:
            return self._object(method, parts.path, query, body)

    def _object(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> tuple[int, Resource]:
        if method != "GET":
            self.changes.append((method, path))
        if method == "POST":
            made = _read(body)
            path = f"{path}/{made['metadata']['name']}"
            if path in self.objects:
                return _status(409, "AlreadyExists")
            return 201, self._keep(path, made)
        if method in ("PUT", "PATCH"):
            is_new = path not in self.objects
            return (201 if is_new else 200), self._keep(path, _read(body))
        if method == "DELETE":
            return (
                (200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})
                if self.objects.pop(path, None)
                else _status(404, "NotFound")
            )
        if path in self.objects:
            return 200, self.objects[path]
        if _is_collection(path):
            items = [
                one
                for place, one in self.objects.items()
                if place.rpartition("/")[0] == path and _selected(one, query.get("labelSelector", ""))
            ]
            kind = next((kind for _, kind in self._kinds if path.endswith(f"/{plural(kind)}")), "")
            version = items[0]["apiVersion"] if items else "v1"
            return 200, {"kind": f"{kind}List", "apiVersion": version, "metadata": {}, "items": items}
        return _status(404, "NotFound")

    def _keep(self, path: str, made: Resource) -> Resource:
        self._version += 1
        made["metadata"].setdefault("uid", f"uid-{self._version}")
        made["metadata"]["resourceVersion"] = str(self._version)
        made["metadata"].setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        self.objects[path] = made
        return made

    def _discovery(self, path: str) -> Resource | None:
        if path == "/version":
            return {"major": "1", "minor": "33", "gitVersion": "v1.33.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = sorted({version for version, _ in self._kinds if "/" in version})
            return {
                "kind": "APIGroupList",
                "apiVersion": "v1",
                "groups": [
                    {
                        "name": version.partition("/")[0],
                        "versions": [{"groupVersion": version, "version": version.partition("/")[2]}],
                        "preferredVersion": {"groupVersion": version, "version": version.partition("/")[2]},
                    }
                    for version in groups
                ],
            }
        version = path.removeprefix("/apis/").removeprefix("/api/")
        kinds = sorted(kind for of_version, kind in self._kinds if of_version == version)
        if path.startswith("/api") and kinds:
            return {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": version,
                "resources": [
                    {"name": plural(kind), "kind": kind, "namespaced": kind != "Namespace", "verbs": _VERBS}
                    for kind in kinds
                ],
            }
        return None


def _read(body: bytes) -> Resource:
    """An object as helm sends it: JSON or YAML, and its own records as a Secret in Kubernetes' protobuf."""
    if not body.startswith(_PROTOBUF):
        loaded: Resource = yaml.safe_load(body)
        return loaded
    secret = _fields(_fields(body.removeprefix(_PROTOBUF))[2][0])  # the message inside of runtime.Unknown
    meta = _fields(secret[1][0])
    pairs = [_fields(entry) for entry in meta.get(11, [])]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": meta[1][0].decode(),
            "namespace": meta.get(3, [b""])[0].decode(),
            "labels": {pair[1][0].decode(): pair[2][0].decode() for pair in pairs},
        },
        "data": {
            entry[1][0].decode(): base64.b64encode(entry[2][0]).decode() for entry in map(_fields, secret.get(2, []))
        },
        "type": secret[3][0].decode(),
    }


def _fields(message: bytes) -> dict[int, list[bytes]]:
    """The length-delimited fields of a protobuf message by number; numbers are skipped."""
    found: dict[int, list[bytes]] = {}
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        value, place = _varint(message, place)  # a number, or the length of what follows
        if key & 7 == _DELIMITED:
            found.setdefault(key >> 3, []).append(message[place : place + value])
            place += value
    return found


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place


def _is_collection(path: str) -> bool:
    return re.search(r"/namespaces/[^/]+/[^/]+$", path) is not None


def _selected(one: Resource, selector: str) -> bool:
    labels: dict[str, str] = one["metadata"].get("labels", {})
    wanted = dict(part.split("=", 1) for part in selector.replace("==", "=").split(",") if "=" in part)
    return wanted.items() <= labels.items()


def _status(code: int, reason: str) -> tuple[int, Resource]:
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
