"""The forms of the URL, and what is refused; nothing is connected."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool

from services.orchestrator.adapters.redis.connect import Connection, connect
from services.shared.errors import InvalidOptionError

pytestmark = pytest.mark.unit


def made(url: str) -> Any:
    """The client behind a connection: what the library made of the URL."""

    async def make() -> Connection:
        return connect(url)

    return asyncio.run(make())._client


def settings_of(url: str) -> dict[str, Any]:
    client = made(url)
    assert isinstance(client, Redis)
    settings: dict[str, Any] = client.connection_pool.connection_kwargs
    return settings


def test_one_server() -> None:
    names = ("host", "port", "username", "password")
    settings = settings_of("redis://ann:p%40ss@store.example:7000/0")
    assert [settings[name] for name in names] == ["store.example", 7000, "ann", "p@ss"]
    settings = settings_of("redis://:secret@[::1]")
    assert [settings[name] for name in names] == ["::1", 6379, None, "secret"]


def test_one_server_over_tls_with_own_certificates() -> None:
    client = made("rediss://store.example?ca=/ca.pem&cert=/own.pem&key=/own.key")
    assert client.connection_pool.connection_class.__name__ == "SSLConnection"
    settings = client.connection_pool.connection_kwargs
    names = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
    assert [settings[name] for name in names] == ["/ca.pem", "/own.pem", "/own.key", True]


def test_sentinels() -> None:
    client = made("redis+sentinel://:data@one,two:7001/orders?sentinel_password=watch")
    pool = client.connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "orders"
    assert pool.connection_kwargs["password"] == "data"
    watchers = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"], one["password"]) for one in watchers] == [
        ("one", 26379, "watch"),
        ("two", 7001, "watch"),
    ]


def test_a_cluster_by_some_of_its_nodes() -> None:
    client = made("rediss+cluster://:secret@one:7000,two/?ca=/ca.pem")
    assert isinstance(client, RedisCluster)
    assert [(node.host, node.port) for node in client.nodes_manager.startup_nodes.values()] == [
        ("one", 7000),
        ("two", 6379),
    ]
    assert client.connection_kwargs["password"] == "secret"
    assert client.connection_kwargs["ssl_ca_certs"] == "/ca.pem"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "store.example:6379",
        "http://store",
        "redis+other://store",
        "redis://",
        "redis://:secret@",
        "redis://:secret@store:port",
        "redis://:secret@store:70000",
        "redis://:secret@[::1",
        "redis://:secret@st\u2100re",
        "redis://:secret@one,two",
        "redis://:secret@store/1",
        "redis+cluster://:secret@store/1",
        "redis+sentinel://:secret@store",
        "redis://:secret@store?ca=/ca.pem",
        "redis://:secret@store?db=1",
        "rediss://:secret@store?sentinel_password=x",
    ],
)
def test_anything_else_is_refused_without_telling_the_password(url: str) -> None:
    with pytest.raises(InvalidOptionError) as refusal:
        made(url)
    assert "secret" not in str(refusal.value)
