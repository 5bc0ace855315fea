"""A plain replica of the orchestrator for fail-over and roll-outs: real API server, real Redis, stub rooms.

    python -m benchmarks.stub_replica OWNER PORT REDIS_PORT DRAIN_S

It says {"port": …} when it serves. SIGTERM drains it as a replica is drained; the end of its input stops it at once.
Its rooms make the same audio of the same text and seed in every process, as the real ones do. Its connections to Redis
have its name, so that the store's log says who wrote what.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from contextlib import AsyncExitStack

from redis.asyncio import Redis

from benchmarks.stub_server import PACES, forget, services
from services.orchestrator.adapters.redis.connect import Connection, ConnectionLimits
from services.orchestrator.adapters.redis.sessions import RedisSessionStore
from services.orchestrator.ingress.auth import Admissions, TenantLimits, Tenants
from services.orchestrator.ingress.calls import CallInterceptor
from services.orchestrator.ingress.faults import Faults
from services.orchestrator.ingress.server import ApiServer, Transport
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.pipeline.observer import Unobserved
from services.orchestrator.pipeline.sessions import Sessions
from services.orchestrator.pipeline.surroundings import Surroundings
from services.orchestrator.pipeline.voices import VoiceBook
from tests.fakes.hearing import LoudnessDetector
from tests.fakes.rooms import FakeRooms
from tests.fakes.store import FakeVoiceStore


async def serve(owner: str, port: int, redis_port: int, drain_s: float) -> None:
    """Serve until asked to end."""
    asked_to_stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked_to_stop.set)
    async with AsyncExitStack() as stack:
        rooms = FakeRooms(PACES, sleep=asyncio.sleep)
        voices, detector = FakeVoiceStore(clock=time.time), LoudnessDetector()
        redis = Redis(port=redis_port, client_name=owner, protocol=2, socket_timeout=2.0)
        connection = Connection(redis, ConnectionLimits())
        stack.push_async_callback(connection.close)
        store = RedisSessionStore(connection, clock=time.time)
        shared = Surroundings(
            rooms=rooms.rooms,
            voices=VoiceBook(rooms.rooms.built_in, voices),
            detector=detector,
            store=store,
            limits=PipelineLimits(resume_window_s=120.0),
            observer=Unobserved(),
            clock=time.monotonic,
            wall_clock=time.time,
            chance=random.Random(),
            default_prompt="",
        )
        sessions = await stack.enter_async_context(Sessions(shared, owner=owner))
        calls = CallInterceptor(Tenants(), Admissions(TenantLimits()), Faults())
        server = ApiServer(services(shared, sessions, store, voices), calls, Transport(port=port))
        stack.push_async_callback(server.stop, 0.0)
        forgetting = asyncio.create_task(forget(rooms, detector))
        stack.callback(forgetting.cancel)
        sys.stdout.write(json.dumps({"port": await server.start()}) + "\n")
        sys.stdout.flush()
        watching = asyncio.create_task(_end_with_input())
        stack.callback(watching.cancel)
        await asked_to_stop.wait()
        await server.drain()
        await sessions.drain(drain_s)


async def _end_with_input() -> None:
    """Whoever started it is gone."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    os._exit(1)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
