"""A real HTTP endpoint on a loopback port, in this process, whose functions misbehave by name."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp


@dataclass
class Seen:
    """What a server was asked.

    Attributes:
        bodies, headers: of each call.
        cancelled: calls that were cut off.
        elsewhere: requests to where no function is.
    """

    bodies: list[dict[str, object]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    cancelled: int = 0
    elsewhere: int = 0


def endpoint(seen: Seen) -> Starlette:
    """Functions over plain HTTP; the name says what happens."""

    async def run(request: Request) -> Response:
        body = json.loads(await request.body())
        seen.bodies.append(body)
        seen.headers.append(dict(request.headers))
        match body["name"]:
            case "slow":
                while not await request.is_disconnected():
                    await asyncio.sleep(0.01)
                seen.cancelled += 1
                return Response()
            case "huge":
                return PlainTextResponse("x" * 100_000)
            case "packed":
                return Response(b"\x1f\x8b", headers={"content-encoding": "gzip"})
            case "broken":
                return PlainTextResponse("no such city", status_code=404)
            case "bytes":
                return Response(b"\xff\xfe")
            case "away":
                return RedirectResponse("/elsewhere", status_code=307)
        return PlainTextResponse(json.dumps({"place": body["arguments"].get("place"), "sky": "sunny"}))

    async def elsewhere(request: Request) -> Response:
        seen.elsewhere += 1
        return PlainTextResponse("secret")

    return Starlette(
        routes=[Route("/tool", run, methods=["POST"]), Route("/elsewhere", elsewhere, methods=["POST", "GET"])]
    )


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an application on a free port; gives its base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", lifespan="on", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started:
                await asyncio.sleep(0.005)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running
            listener.close()
