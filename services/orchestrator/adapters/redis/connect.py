"""A connection to the store, made from one URL.

    redis://[[USER]:PASSWORD@]HOST[:PORT]                              one server
    redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST…]/SERVICE     the hosts are Sentinels that watch SERVICE
    redis+cluster://[[USER]:PASSWORD@]HOST[:PORT][,HOST…]              the hosts are some of a Cluster's nodes
    rediss://  rediss+sentinel://  rediss+cluster://                   the same over TLS

    ?ca=FILE             certificates that are trusted, instead of the system's          TLS only
    ?cert=FILE&key=FILE  the client's own                                                TLS only
    ?sentinel_user=…&sentinel_password=…                                                 Sentinel only

User and password are those of the data servers. There is no database but 0: a Cluster has no other.

A call takes a place among a bounded number, is tried again with growing, random pauses where the connection failed or
the server is changing hands, and ends within its time. Every call may come twice in this way, so only calls that may
are made here. What fails for good is `RoomUnavailableError` where the store is away or cannot write now, and
`StepAudioError` where it refuses what this release asks: neither holds a password.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import FullJitterBackoff, NoBackoff
from redis.exceptions import (
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as LostConnectionError
from redis.exceptions import TimeoutError as NoAnswerError

from services.shared.errors import InvalidOptionError, RoomUnavailableError, StepAudioError

_DEFAULT_PORT: Final = 6379
_DEFAULT_SENTINEL_PORT: Final = 26379
_BACKOFF_BASE_S: Final = 0.02
_BACKOFF_CAP_S: Final = 0.5
_PASSING: Final = (LostConnectionError, NoAnswerError, ReadOnlyError, ClusterDownError, TryAgainError)
"""Worth another try: the connection, or a fail-over that has not come to its end."""
_AWAY: Final = (*_PASSING, OutOfMemoryError, RedisClusterException, OSError)
_AWAY_CODES: Final = ("MISCONF ", "NOREPLICAS ", "BUSY ", "UNBLOCKED ")
"""The server is there and cannot write now: its disk, its replicas, or a script in its way."""

Word = str | bytes | int


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one replica may use of the store, and how long it waits.

    Attributes:
        connections: calls under way at once; more wait their turn.
        connect_s: to open a connection.
        answer_s: for one answer.
        call_s: for a call with all its tries, waiting for a place included.
        retries: after the first try.
        idle_check_s: a connection that was idle for so long is tried before it is used.
    """

    connections: int = 32
    connect_s: float = 1.0
    answer_s: float = 1.0
    call_s: float = 3.0
    retries: int = 5
    idle_check_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script; the server knows it by its digest once it has seen it."""

    text: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "digest", digest)


class Connection:
    """Calls to the store. It opens its sockets at the first call, and belongs to the event loop of that call."""

    def __init__(
        self, client: Redis | RedisCluster, limits: ConnectionLimits, *, watchers: Sequence[Redis] = ()
    ) -> None:
        """Make it.

        Args:
            client: that does not try again by itself.
            limits: of all calls together.
            watchers: the Sentinels that the client asks, to be closed with it.
        """
        self._client = client
        self._watchers = watchers
        self._limits = limits
        self._places = asyncio.Semaphore(limits.connections)

    async def command(self, *words: Word) -> Any:  # an answer is what its command says
        """Send one command, which has to be harmless when it comes twice.

        Raises:
            RoomUnavailableError: the store is away, or cannot write now.
            StepAudioError: it refuses the command.
        """
        return await self._call(words[0], lambda: self._client.execute_command(*words))

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Word]) -> Any:  # as `command`
        """Run a script, by its digest where the server knows it. Raises as `command`."""

        async def run_once() -> Any:
            rest = (len(keys), *keys, *arguments)
            try:
                return await self._client.execute_command("EVALSHA", script.digest, *rest)
            except NoScriptError:  # a new server, or one that took over
                return await self._client.execute_command("EVAL", script.text, *rest)

        return await self._call("EVALSHA", run_once)

    async def check(self) -> None:
        """Whether the store answers. Raises as `command`."""
        await self.command("PING")

    async def close(self) -> None:
        """Close the sockets."""
        for client in (self._client, *self._watchers):
            await client.aclose()

    async def _call(self, name: Word, attempt: Callable[[], Awaitable[Any]]) -> Any:
        retry = Retry(FullJitterBackoff(_BACKOFF_CAP_S, _BACKOFF_BASE_S), self._limits.retries, _PASSING)
        try:
            async with asyncio.timeout(self._limits.call_s), self._places:
                return await retry.call_with_retry(attempt, _nothing)
        except TimeoutError as error:
            raise RoomUnavailableError(f"the store gave no answer to {name!r} in {self._limits.call_s} s") from error
        except _AWAY as error:
            raise RoomUnavailableError(f"the store is away: {error}") from error
        except ResponseError as error:
            if str(error).startswith(_AWAY_CODES):
                raise RoomUnavailableError(f"the store cannot write now: {error}") from error
            raise StepAudioError(f"the store refused {name!r}: {error}") from error
        except RedisError as error:
            raise RoomUnavailableError(f"the store's answer is no answer: {error}") from error


def connect(url: str, *, limits: ConnectionLimits | None = None) -> Connection:
    """Make a connection; nothing is sent yet.

    Args:
        url: where the store is, as the module says.
        limits: of this process.

    Raises:
        InvalidOptionError: the URL is none of the forms.
    """
    limits = limits or ConnectionLimits()
    parts = _split(url)
    scheme, _, kind = parts.scheme.partition("+")
    hosts = _hosts(parts, _DEFAULT_SENTINEL_PORT if kind == "sentinel" else _DEFAULT_PORT)
    options = _options(parts, is_tls=scheme == "rediss", is_sentinel=kind == "sentinel")
    common = {**_common(limits), **_tls(options, is_tls=scheme == "rediss")}
    login: dict[str, Any] = {"username": _login(parts.username), "password": _login(parts.password)}
    if kind == "sentinel":
        service = unquote(parts.path.strip("/"))
        if not service:
            raise InvalidOptionError("the store's URL names Sentinels and no service: …/SERVICE")
        own = {"username": options.get("sentinel_user"), "password": options.get("sentinel_password")}
        sentinel = Sentinel(hosts, sentinel_kwargs={**common, **own})
        client = sentinel.master_for(service, max_connections=limits.connections, **common, **login)
        return Connection(client, limits, watchers=sentinel.sentinels)
    if parts.path not in ("", "/", "/0"):
        raise InvalidOptionError("the store's URL names a database; there is none but 0")
    if kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in hosts]
        cluster = RedisCluster(startup_nodes=nodes, max_connections=limits.connections, **common, **login)
        return Connection(cluster, limits)
    if len(hosts) != 1:
        raise InvalidOptionError("the store's URL names several hosts; say redis+sentinel:// or redis+cluster://")
    host, port = hosts[0]
    return Connection(Redis(host=host, port=port, max_connections=limits.connections, **common, **login), limits)


async def _nothing(_: Exception) -> None:
    """What is done between two tries: the client drops a broken connection by itself."""


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidOptionError("the store's URL is no URL") from None  # the cause may quote it, password and all
    schemes = [f"{base}{kind}" for base in ("redis", "rediss") for kind in ("", "+sentinel", "+cluster")]
    if parts.scheme not in schemes:
        raise InvalidOptionError(f"the store's URL begins with {parts.scheme!r}, not with one of {', '.join(schemes)}")
    return parts


def _hosts(parts: SplitResult, default_port: int) -> list[tuple[str, int]]:
    found = []
    for place in parts.netloc.rpartition("@")[2].split(","):
        try:
            one = urlsplit(f"//{place}")
            host, port = one.hostname, one.port
        except ValueError as error:
            raise InvalidOptionError(f"the store's URL has a host {place!r}: {error}") from error
        if not host:
            raise InvalidOptionError("the store's URL lacks a host")
        found.append((host, default_port if port is None else port))
    return found


def _options(parts: SplitResult, *, is_tls: bool, is_sentinel: bool) -> dict[str, str]:
    known = {
        *(("ca", "cert", "key") if is_tls else ()),
        *(("sentinel_user", "sentinel_password") if is_sentinel else ()),
    }
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(options.keys() - known):
        raise InvalidOptionError(f"the store's URL has options that do not belong to its kind: {', '.join(unknown)}")
    return options


def _login(quoted: str | None) -> str | None:
    return unquote(quoted) if quoted else None


def _common(limits: ConnectionLimits) -> dict[str, Any]:  # as the client's constructors take it
    return {
        "socket_timeout": limits.answer_s,
        "socket_connect_timeout": limits.connect_s,
        "health_check_interval": limits.idle_check_s,
        "retry": Retry(NoBackoff(), 0),  # all tries are `Connection`'s
        "protocol": 2,
    }


def _tls(options: dict[str, str], *, is_tls: bool) -> dict[str, Any]:  # as `_common`
    if not is_tls:
        return {}
    files = {"ssl_ca_certs": "ca", "ssl_certfile": "cert", "ssl_keyfile": "key"}
    return {"ssl": True, **{name: options[option] for name, option in files.items() if option in options}}
