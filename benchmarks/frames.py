"""Where the processor time of a frame goes: the whole way from message to message in one process, in virtual time.

    python -m benchmarks.frames [--quick]

Callers send 20 ms of silence every 20 ms while the agent speaks one long text, as in `benchmarks.orchestrator`, but
nothing ever waits: no network, no gRPC and no idle processor, so that figures repeat within a few percent, and are less
than what the same work costs where caches are cold. What the callers themselves and an echo cost is taken off.

A layer's time is that of its entrance less what layers within it took; reading the processor clock, twice a call, is in
it. What no layer has is the pipeline between them, its tasks, the stubs and the loop.
"""

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from benchmarks.report import machine, table
from benchmarks.stub_clients import LONG_TEXT, SILENCE, start
from benchmarks.stub_server import PACES, Echo, Request, Response, forget, services
from protos.gen.stepaudio.v1 import conversation_pb2
from services.orchestrator.ingress import messages
from services.orchestrator.ingress.audio_in import AudioInput
from services.orchestrator.ingress.audio_out import AudioOutput
from services.orchestrator.ingress.auth import Tenants
from services.orchestrator.ingress.calls import _CALLER
from services.orchestrator.pipeline.core import PureCore
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.pipeline.observer import Unobserved
from services.orchestrator.pipeline.session import Stream
from services.orchestrator.pipeline.sessions import Sessions
from services.orchestrator.pipeline.shell import Session
from services.orchestrator.pipeline.surroundings import Surroundings
from services.orchestrator.pipeline.voices import VoiceBook
from services.shared.audio.resample import Resampler
from tests.fakes.clock import run
from tests.fakes.hearing import ScriptedDetector
from tests.fakes.rooms import FakeRooms
from tests.fakes.store import FakeSessionStore, FakeVoiceStore

CALLERS: Final = 20
FRAME_S: Final = 0.02
SETTLE_S: Final = 4.0
FRAME: Final = SILENCE.SerializeToString()
ENTRANCES: Final[tuple[tuple[str, Any, str], ...]] = (
    ("the caller's audio decoded and placed", AudioInput, "push"),
    ("audio kept, frames asked about", Stream, "hear"),
    ("the shell around the core", Session, "tell"),
    ("the core", PureCore, "step"),
    ("resampling", Resampler, "push"),
    ("the reply's audio cut and encoded", AudioOutput, "push"),
    ("messages of audio made", messages, "_audio_event"),
)


class Clock:
    """Own time of layers, in ns."""

    def __init__(self) -> None:
        self.spent_ns = dict.fromkeys((name for name, _, _ in ENTRANCES), 0)
        self._within_ns = [0]

    def timed(self, name: str, entrance: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, its time noted."""

        def measured(*arguments: Any, **named: Any) -> Any:
            self._within_ns.append(0)
            begun_ns = time.thread_time_ns()
            try:
                return entrance(*arguments, **named)
            finally:
                taken_ns = time.thread_time_ns() - begun_ns
                self.spent_ns[name] += taken_ns - self._within_ns.pop()
                self._within_ns[-1] += taken_ns

        return measured


@contextmanager
def entrances(clock: Clock) -> Iterator[None]:
    """Time every layer within the block."""
    plain = [getattr(owner, method) for _, owner, method in ENTRANCES]
    for (name, owner, method), entrance in zip(ENTRANCES, plain, strict=True):
        setattr(owner, method, clock.timed(name, entrance))
    try:
        yield
    finally:
        for (_, owner, method), entrance in zip(ENTRANCES, plain, strict=True):
            setattr(owner, method, entrance)


class Peer:
    """The other side of one call."""

    def __init__(self) -> None:
        self.sent = self.received = 0

    def invocation_metadata(self) -> tuple[()]:
        """None."""
        return ()

    async def write(self, message: Response) -> None:
        """Take what would go over the wire."""
        message.SerializeToString()
        self.received += message.HasField("reply_audio")

    async def requests(self, delay_s: float) -> AsyncIterator[Request]:
        """A frame every 20 ms, for ever."""
        yield start()
        yield Request(say=conversation_pb2.Say(request_id="long", text=LONG_TEXT))
        clock = asyncio.get_running_loop().time
        begun_s = clock() + delay_s
        while True:
            await asyncio.sleep(begun_s + self.sent * FRAME_S - clock())
            self.sent += 1
            yield Request.FromString(FRAME)


async def measure(seconds: float, *, echo: bool) -> tuple[float, float]:
    """Microseconds of a frame both ways, and how many frames there were."""
    loop = asyncio.get_running_loop()
    rooms = FakeRooms(PACES, sleep=asyncio.sleep)
    store, voices, detector = FakeSessionStore(clock=loop.time), FakeVoiceStore(clock=loop.time), ScriptedDetector()
    shared = Surroundings(
        rooms=rooms.rooms,
        voices=VoiceBook(rooms.rooms.built_in, voices),
        detector=detector,
        store=store,
        limits=PipelineLimits(),
        observer=Unobserved(),
        clock=loop.time,
        wall_clock=loop.time,
        chance=random.Random(1),
        default_prompt="",
    )
    peers = [Peer() for _ in range(CALLERS)]
    _CALLER.set(Tenants().identify((), {}))
    async with Sessions(shared, owner="replica") as sessions, asyncio.TaskGroup() as group:
        served: Any = Echo() if echo else services(shared, sessions, store, voices).conversation  # the generated types
        tasks = [group.create_task(forget(rooms, detector, store))]
        for place, peer in enumerate(peers):
            call = served.Converse(peer.requests(place * FRAME_S / CALLERS), peer)
            tasks.append(group.create_task(call))
        await asyncio.sleep(SETTLE_S)
        used_s, frames = time.process_time(), _frames(peers)
        await asyncio.sleep(seconds)
        used_s, frames = time.process_time() - used_s, _frames(peers) - frames
        for task in tasks:
            task.cancel()
    return 1e6 * used_s / frames, frames


def _frames(peers: list[Peer]) -> float:
    return sum(peer.sent + peer.received for peer in peers) / 2


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    seconds, rounds = (5.0, 3) if parser.parse_args().quick else (20.0, 5)
    print(machine())
    wholes = []
    for _ in range(rounds):
        floor_us, whole_us = (run(measure(seconds, echo=echo))[0] for echo in (True, False))
        wholes.append(whole_us - floor_us)
    print(f"\n{statistics.median(wholes):.1f} µs a frame both ways above the callers and an echo; by layer:\n")
    clock = Clock()
    with entrances(clock):
        _, frames = run(measure(seconds, echo=False))
    frames *= (SETTLE_S + seconds) / seconds  # the layers' clocks ran from the beginning
    rows = [(name, f"{spent_ns / 1000 / frames:.1f}") for name, spent_ns in clock.spent_ns.items()]
    print(table(("layer", "µs a frame"), rows))


if __name__ == "__main__":
    main()
