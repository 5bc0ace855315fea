"""Functions over real HTTP and of a real MCP server: what they give, and everything that goes wrong, as answers."""

import asyncio
import contextlib
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from services.orchestrator.adapters.tools.registry import RegisteredTools, Registry, open_tools, read_registry
from services.orchestrator.conversation.options import Tool, ToolExecutor
from services.orchestrator.conversation.record import ToolCall
from services.orchestrator.ports.tools import ToolAnswer, ToolRequest
from services.shared.errors import InvalidOptionError
from tests.orchestrator.adapters.tools.servers import Seen, endpoint, served

pytest.importorskip("mcp", reason="needs stepaudio[tools]")

HTTP, MCP = ToolExecutor.HTTP_ENDPOINT, ToolExecutor.MCP_SERVER


def request(executor: ToolExecutor, name: str, arguments: str = "{}", *, tenant: str = "acme") -> ToolRequest:
    tool = Tool(name, "A function.", timeout_ms=3000, executor=executor, registered_as="place")
    return ToolRequest(tenant, "session-1", ToolCall("call-1", name, arguments), tool, "00-trace")


@contextlib.asynccontextmanager
async def registered(url: str, part: str, **fields: object) -> AsyncIterator[RegisteredTools]:
    file = {part: {"place": {"url": url, **fields}}}
    tools = open_tools(Registry.model_validate(file), {"TOKEN": "Bearer secret"})
    try:
        yield tools
    finally:
        await tools.close()


def http(test: Callable[[RegisteredTools, Seen], Awaitable[None]], **fields: object) -> None:
    async def run() -> None:
        seen = Seen()
        async with (
            asyncio.timeout(20),
            served(endpoint(seen)) as url,
            registered(f"{url}/tool", "http_endpoints", **fields) as tools,
        ):
            await test(tools, seen)

    asyncio.run(run())


@pytest.mark.integration
def test_an_http_endpoint_gets_the_call_and_gives_its_text() -> None:
    async def test(tools: RegisteredTools, seen: Seen) -> None:
        answer = await tools.run(request(HTTP, "weather", '{"place": "Rome"}'))
        assert answer == ToolAnswer('{"place": "Rome", "sky": "sunny"}')
        assert seen.bodies == [
            {
                "name": "weather",
                "arguments": {"place": "Rome"},
                "call_id": "call-1",
                "session_id": "session-1",
                "tenant": "acme",
            }
        ]
        headers = seen.headers[0]
        assert headers["authorization"] == "Bearer secret"
        assert headers["idempotency-key"] == "session-1/call-1"
        assert headers["traceparent"] == "00-trace"

    http(test, headers={"authorization": {"environment": "TOKEN"}})


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("huge", "larger than 1000 bytes"),
        ("packed", "larger than 1000 bytes"),
        ("broken", "failed with 404: no such city"),
        ("bytes", "no text"),
        ("away", "failed with 307"),
    ],
)
def test_what_goes_wrong_at_an_endpoint_is_an_answer_for_the_model(name: str, problem: str) -> None:
    async def test(tools: RegisteredTools, seen: Seen) -> None:
        answer = await tools.run(request(HTTP, name))
        assert answer.is_error
        assert problem in answer.text
        assert seen.elsewhere == 0, "it was led astray"
        assert not (await tools.run(request(HTTP, "weather"))).is_error, "the endpoint is of no use any more"

    http(test, max_result_bytes=1000)


@pytest.mark.integration
def test_cancelling_a_call_reaches_the_endpoint() -> None:
    async def test(tools: RegisteredTools, seen: Seen) -> None:
        task = asyncio.ensure_future(tools.run(request(HTTP, "slow")))
        while not seen.bodies:
            await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        while not seen.cancelled:
            await asyncio.sleep(0.01)

    http(test)


@pytest.mark.integration
def test_an_endpoint_that_is_not_there_is_an_answer_too() -> None:
    async def run() -> None:
        async with registered("http://127.0.0.1:9/tool", "http_endpoints") as tools:
            answer = await tools.run(request(HTTP, "weather"))
            assert answer == ToolAnswer("the function cannot be reached now", is_error=True)

    asyncio.run(run())


def mcp(test: Callable[[RegisteredTools, Seen], Awaitable[None]], **fields: object) -> None:
    from mcp.server.mcpserver import MCPServer

    seen = Seen()
    server = MCPServer("tests")

    @server.tool()
    async def weather(place: str) -> str:
        return f"It is sunny in {place}."

    @server.tool()
    async def huge() -> str:
        return "x" * 1_000_000

    @server.tool()
    async def long() -> str:
        return "x" * 2_000

    @server.tool()
    async def broken() -> str:
        raise ValueError("no such city")

    @server.tool()
    async def slow() -> str:
        seen.bodies.append({})
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.cancelled += 1
            raise
        return ""

    async def run() -> None:
        async with (
            asyncio.timeout(30),
            served(server.streamable_http_app()) as url,
            registered(f"{url}/mcp", "mcp_servers", **fields) as tools,
        ):
            await test(tools, seen)

    asyncio.run(run())


@pytest.mark.integration
def test_an_mcp_server_runs_functions_and_what_goes_wrong_is_an_answer() -> None:
    async def test(tools: RegisteredTools, seen: Seen) -> None:
        answer = await tools.run(request(MCP, "weather", json.dumps({"place": "Rome"})))
        assert answer == ToolAnswer("It is sunny in Rome.")
        for name, problem in (
            ("broken", "Error executing tool broken"),
            ("unknown", "unknown"),
            ("long", "larger than 1000 bytes"),
            ("huge", ""),
        ):
            answer = await tools.run(request(MCP, name))
            assert answer.is_error, name
            assert problem.lower() in answer.text.lower()
        assert not (await tools.run(request(MCP, "weather", '{"place": "Oslo"}'))).is_error

    mcp(test, max_result_bytes=1000)


@pytest.mark.integration
def test_a_call_of_an_mcp_server_can_be_cancelled() -> None:
    async def test(tools: RegisteredTools, seen: Seen) -> None:
        task = asyncio.ensure_future(tools.run(request(MCP, "slow")))
        while not seen.bodies:
            await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()

    mcp(test)


@pytest.mark.unit
def test_a_place_is_for_its_tenants_and_under_its_own_name_only() -> None:
    async def run() -> None:
        async with registered("http://127.0.0.1:9/tool", "http_endpoints", tenants=["acme"]) as tools:
            assert tools.has("acme", HTTP, "place")
            assert not tools.has("other", HTTP, "place")
            assert not tools.has("acme", MCP, "place")
            assert not tools.has("acme", HTTP, "http://10.0.0.1/")
            assert (await tools.run(request(HTTP, "x", tenant="other"))).is_error

    asyncio.run(run())


@pytest.mark.unit
@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{", "Invalid JSON"),
        ('{"http": {}}', "http"),
        ('{"http_endpoints": {"a": {"url": "file:///etc/passwd"}}}', "url"),
        ('{"http_endpoints": {"a": {"url": "http://user:word@host/"}}}', "url"),
        ('{"mcp_servers": {"a": {"url": "http://host/", "max_calls": 0}}}', "max_calls"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused_by_place(tmp_path: Path, written: str, said: str) -> None:
    file = tmp_path / "tools.json"
    file.write_text(written, encoding="utf-8")
    with pytest.raises(InvalidOptionError, match=said):
        read_registry(file)


@pytest.mark.unit
def test_what_is_refused_quotes_no_header(tmp_path: Path) -> None:
    file = tmp_path / "tools.json"
    file.write_text('{"http_endpoints": {"a": {"headers": {"x-api-key": "secret"}}}}')
    with pytest.raises(InvalidOptionError) as caught:
        read_registry(file)
    assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.unit
def test_a_secret_that_is_not_there_is_refused_by_the_name_of_its_variable() -> None:
    file = {"http_endpoints": {"a": {"url": "http://host/", "headers": {"x": {"environment": "ABSENT"}}}}}
    with pytest.raises(InvalidOptionError, match="ABSENT"):
        open_tools(Registry.model_validate(file), {})
