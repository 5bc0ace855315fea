"""How soon a reply stops when the user speaks into it: on the whole local system, with the real rooms.

    python -m benchmarks.barge_in [--quick] [--repeats N] [--json FILE]

    the user speaks   ─────────|▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
                             onset  ┊ decision (speech of min_speech_ms was heard)
    the client        ♪♪♪♪♪♪♪♪♪♪♪♪♪♪♪♪|  `interrupted` is read: the player is emptied, and no audio of the reply follows
    the engines       ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓|  the last request of the reply has let go

 * decision to silence: until the client has read `interrupted`, behind which no audio of the reply comes; so the last
   audio message was sent before. The moment of the decision is the event's own `elapsed_ms`, cut to a millisecond
   below, on the wall clock that all processes of this machine share.
 * decision to idle: until the last span of the reply's requests has ended, in the rooms' own processes; they are traced
   to a collector inside the benchmark. 0 where all of them had ended before.
 * onset to silence: from the moment the first sample of a recorded voice was spoken. The clip begins with its first
   sample of a tenth of the loudest one, so that nothing quiet stands before the onset. The way there has three parts
   before the decision: until the last sample of the frame was spoken that makes the speech `min_speech_ms` long; until
   the caller has sent the piece of 20 ms with that sample; until the core has decided, with the frame judged.

The agent says a long text, so that the speech model and the vocoder are at work; the moment of the interruption is
drawn anew each time. A written question keeps the chat model busy for some milliseconds only, before any speech can
interrupt it.
"""

import argparse
import asyncio
import json
import random
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from benchmarks.live_system import LiveSystem
from benchmarks.report import machine, percentile, table
from protos.gen.stepaudio.v1 import audio_pb2, conversation_pb2, options_pb2, turn_taking_pb2
from services.local.settings import ROOT
from services.orchestrator.conversation.options import SERVED_TURN_TAKING
from stepaudio import Client
from stepaudio.conversation import Conversation
from stepaudio.formats import Samples
from stepaudio.sources import read_speech

QUESTION: Final = ROOT / "benchmarks" / "data" / "nano_questions" / "wav" / "heldout_16.wav"
HEARD_RATE_HZ, REPLY_RATE_HZ = 16_000, 24_000
PIECE_SAMPLES: Final = HEARD_RATE_HZ // 50
REPEATS, QUICK_REPEATS = 100, 6
MIN_SPEECH_MS: Final = SERVED_TURN_TAKING.barge_in.min_speech_ms
"""Of a caller who chooses none."""
TEXT: Final = "The meeting begins at three. Please bring the papers. The lamp is in the kitchen. " * 6
EARLIEST_S, LATEST_S = 0.2, 1.5
"""After the reply's first audio the user begins to speak."""
SPANS_S: Final = 8.0
"""Until every process has sent the spans it has: they are sent every 5 s."""
TURN_TIMEOUT_S: Final = 60.0
ENGINES: Final = ("step1_tts", "token_to_wave")
IDLE: Final = "decision to idle"
SILENCED: Final = "onset to silence"
REPLY_SPAN: Final = "turn"
LIMITS_MS: Final = {"decision to silence": 20, IDLE: 100, SILENCED: 300}


@dataclass(frozen=True, slots=True)
class Span:
    """Work of a process: wall-clock seconds."""

    name: str
    parent: bytes
    ended_s: float


@dataclass(slots=True)
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes the spans of all processes.

    Attributes:
        replies: id of the span of each reply, by session and turn.
        spans: those of the engines.
    """

    replies: dict[tuple[str, int], bytes] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)

    async def Export(  # noqa: N802  # the service's own name
        self,
        request: trace_service_pb2.ExportTraceServiceRequest,
        context: Any,  # Any: it is not looked into
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Keep what is of use."""
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    values = {item.key: item.value for item in span.attributes}
                    if span.name == REPLY_SPAN:
                        key = values["session"].string_value, values["turn"].int_value
                        self.replies[key] = span.span_id
                    elif span.name in ENGINES:
                        self.spans.append(Span(span.name, span.parent_span_id, span.end_time_unix_nano / 1e9))
        return trace_service_pb2.ExportTraceServiceResponse()

    def idle_s(self, stopped: "Stopped", engine: str) -> float:
        """How long after the decision an engine let go of a reply; 0 where it had before."""
        reply = self.replies[stopped.session, stopped.turn]
        ends_s = [span.ended_s for span in self.spans if span.parent == reply and span.name == engine]
        return max(0.0, max(ends_s, default=0.0) - stopped.decided_s)


@dataclass(frozen=True, slots=True)
class Stopped:
    """One reply that was interrupted; wall-clock seconds.

    Attributes:
        session, turn: which.
        onset_s: the first sample of the voice was spoken.
        enough_s: so was the last one of the frame that decides.
        sent_s: that one was sent.
        decided_s: the core decided.
        silent_s: the client has read it.
    """

    session: str
    turn: int
    onset_s: float
    enough_s: float
    sent_s: float
    decided_s: float
    silent_s: float

    @property
    def way_ms(self) -> dict[str, float]:
        """Where the time from onset to silence went."""
        return {
            "… speech is long enough": 1000 * (self.enough_s - self.onset_s),
            "… it is sent": 1000 * (self.sent_s - self.enough_s),
            "… it is judged": 1000 * (self.decided_s - self.sent_s),
        }


@dataclass(slots=True)
class Voice:
    """Who speaks: silence until told to begin, then a recording, and silence again.

    Attributes:
        samples: the recording.
        begin: tells it to begin.
        onset_sample: where in the caller's audio it began; None before.
        began_s: the caller's audio began, on the wall clock.
        sent_s: when each piece was sent, on the wall clock.
    """

    samples: Samples
    begin: asyncio.Event = field(default_factory=asyncio.Event)
    onset_sample: int | None = None
    began_s: float = 0.0
    sent_s: list[float] = field(default_factory=list)

    async def speak(self, conversation: Conversation) -> None:
        """Send pieces of 20 ms when they are spoken, until cancelled."""
        quiet = np.zeros(PIECE_SAMPLES, np.float32)
        self.began_s = time.time()
        while True:
            position = len(self.sent_s) * PIECE_SAMPLES
            if self.begin.is_set() and self.onset_sample is None:
                self.onset_sample = position
            said = len(self.samples) if self.onset_sample is None else position - self.onset_sample
            piece = self.samples[said : said + PIECE_SAMPLES]
            await asyncio.sleep(max(0.0, self.spoken_s(position + PIECE_SAMPLES) - time.time()))
            await conversation.send_audio(piece if len(piece) == PIECE_SAMPLES else quiet)
            self.sent_s.append(time.time())

    def spoken_s(self, sample: int) -> float:
        """When the samples before this one had been spoken."""
        return self.began_s + sample / HEARD_RATE_HZ

    def stopped(self, session: str, turn: int, found_sample: int, *, decided_s: float, silent_s: float) -> Stopped:
        """What came of it, once the speech that was found at a sample has interrupted."""
        assert self.onset_sample is not None  # nothing else was said
        enough_sample = found_sample + MIN_SPEECH_MS * HEARD_RATE_HZ // 1000
        piece = -(-enough_sample // PIECE_SAMPLES) - 1
        return Stopped(
            session,
            turn,
            onset_s=self.spoken_s(self.onset_sample),
            enough_s=self.spoken_s(enough_sample),
            sent_s=self.sent_s[piece],
            decided_s=decided_s,
            silent_s=silent_s,
        )


class Silent:
    """A player that has nothing to say; it holds what it was given for as long as that would sound."""

    sample_rate_hz = REPLY_RATE_HZ

    def __init__(self) -> None:
        self._until_s = 0.0

    def write(self, samples: Samples) -> None:
        """See `Player`."""
        self._until_s = max(self._until_s, time.monotonic()) + len(samples) / self.sample_rate_hz

    def clear(self) -> None:
        """See `Player`."""
        self._until_s = 0.0

    def pending_samples(self) -> int:
        """See `Player`."""
        return max(0, int((self._until_s - time.monotonic()) * self.sample_rate_hz))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"only {QUICK_REPEATS} replies")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--json", type=Path, default=Path("out/barge_in.json"), help="all figures")
    asked = parser.parse_args()
    print(machine())
    found = asyncio.run(measure(QUICK_REPEATS if asked.quick else asked.repeats))
    print(report(found))
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(found, indent=1) + "\n")


async def measure(repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each figure, reply by reply."""
    collector = Collector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with tempfile.TemporaryDirectory() as folder:
        system = LiveSystem(Path(folder), {"STEPAUDIO_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"})
        try:
            await asyncio.to_thread(system.up)
            stopped = await interrupt_often(system.address, repeats)
            await asyncio.sleep(SPANS_S)
        finally:
            await asyncio.to_thread(system.down)
            await server.stop(None)
    return {
        "decision to silence": [1000 * (one.silent_s - one.decided_s) for one in stopped],
        IDLE: [1000 * max(collector.idle_s(one, engine) for engine in ENGINES) for one in stopped],
        **{f"… {engine}": [1000 * collector.idle_s(one, engine) for one in stopped] for engine in ENGINES},
        SILENCED: [1000 * (one.silent_s - one.onset_s) for one in stopped],
        **{name: [one.way_ms[name] for one in stopped] for name in stopped[0].way_ms},
    }


async def interrupt_often(address: str, repeats: int) -> list[Stopped]:
    """Interrupt so many replies, each in a session of its own."""
    samples = _from_onset(read_speech(QUESTION, HEARD_RATE_HZ))
    chance = random.Random(1)
    return [await interrupt_once(address, Voice(samples), chance.uniform(EARLIEST_S, LATEST_S)) for _ in range(repeats)]


async def interrupt_once(address: str, voice: Voice, after_s: float) -> Stopped:
    """Have a long text said, and speak into it."""
    async with (
        asyncio.timeout(TURN_TIMEOUT_S),
        Conversation(address, _session(), player=Silent()) as conversation,
        asyncio.TaskGroup() as group,
    ):
        session_id = conversation.session.session_id
        created_s = await _created_s(address, session_id)
        found_sample = 0
        speaking = group.create_task(voice.speak(conversation))
        await conversation.say(TEXT)
        async for event in conversation:
            match event.WhichOneof("event"):
                case "reply_audio" if not voice.begin.is_set():
                    asyncio.get_running_loop().call_later(after_s, voice.begin.set)
                case "speech_started":
                    found_sample = event.speech_started.first_sample
                case "interrupted":
                    silent_s = time.time()
                    decided_s = created_s + event.elapsed_ms / 1000
                    break
        turn = event.turn
        async for event in conversation:
            if event.HasField("reply_audio") and event.turn == turn:
                raise RuntimeError("audio of a reply came after its interruption")
            if event.HasField("turn_ended"):
                break
        speaking.cancel()
        with suppress(asyncio.CancelledError):
            await speaking
        return voice.stopped(session_id, turn, found_sample, decided_s=decided_s, silent_s=silent_s)


async def _created_s(address: str, session_id: str) -> float:
    async with Client(address) as client:
        return (await client.get_session(session_id)).create_time.ToNanoseconds() / 1e9


def _from_onset(speech: Samples) -> Samples:
    """From the first loud sample on."""
    loud = np.nonzero(np.abs(speech) > 0.1 * np.abs(speech).max())[0]
    return speech[loud[0] :]


def _session() -> conversation_pb2.SessionStart:
    barge_in = turn_taking_pb2.BargeInOptions(enabled=True, min_speech_ms=MIN_SPEECH_MS)
    options = options_pb2.SessionOptions(
        turn_taking=turn_taking_pb2.TurnTakingOptions(barge_in=barge_in), voice=options_pb2.VoiceOptions(seed=7)
    )
    reply_audio = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM16, sample_rate_hz=REPLY_RATE_HZ)
    return conversation_pb2.SessionStart(options=options, reply_audio=reply_audio)


def report(found: dict[str, list[float]]) -> str:
    """The table."""
    rows = [
        (
            name,
            len(values),
            *(f"{percentile(values, share):.1f}" for share in (50, 90, 99, 100)),
            LIMITS_MS.get(name, ""),
        )
        for name, values in found.items()
    ]
    return table(("ms from", "replies", "median", "90 %", "99 %", "largest", "99 % wanted"), rows)


if __name__ == "__main__":
    main()
