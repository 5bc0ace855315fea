"""Conversations meet the rooms: SimPy processes, in virtual time.

    user      ▒▒▒▒▒▒▒▒▒▒ silence
    tokenizer   ▪ ▪ ▪ ▪▪          a request each 240 ms of speech, the last one after its end
    lm                    ▪▪▪▪▪▪▪▪▪▪         one token of every open reply in a step
    tts                      ▪▪▪▪▪▪▪▪▪▪▪▪    clause after clause, as text arrives
    vocoder                     ██  ████ ██  batches, earliest deadline first
    listener                      ♪♪♪♪♪♪♪♪♪♪♪♪♪

At a pause the reply is prepared and held back until the turn has ended; at a hesitation the user goes on, and what was
prepared was for nothing. Left out: interruptions, failures, the network.
A server that shares the machine's cores computes in slices of 2 ms, in turn with all others.
"""

import heapq
import math
import random
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, cycle
from typing import Any, Final

import simpy

from benchmarks.capacity.laws import POOLS, Deployment, PassLaw, Pool, StepLaw
from benchmarks.capacity.workload import TOKEN_S, Habits, Turn, Turns

SLICE_S: Final = 0.002
FRAME_S: Final = 0.02

Process = Generator[simpy.Event, Any, None]


@dataclass(slots=True)
class Seen:
    """What happened after the warm-up.

    Attributes:
        first_audio_s: from the end of speech to the first audio, of every turn; endpointing is part of it.
        underrun_turns: in which the listener's buffer ran dry.
        turns: that were heard to their end.
        busy_s: of each pool's servers together.
        delayed_s: by others' work, of all requests of each pool together: against a server of one's own.
        measured_s: how long was looked at.
    """

    first_audio_s: list[float] = field(default_factory=list)
    underrun_turns: int = 0
    turns: int = 0
    busy_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(POOLS, 0.0))
    delayed_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(POOLS, 0.0))
    measured_s: float = 0.0


class Processor:
    """What servers compute on: a device of their own, or cores that all share."""

    def __init__(self, env: simpy.Environment, cores: int | None) -> None:
        self._env = env
        self._cores = None if cores is None else simpy.Resource(env, cores)

    def compute(self, seconds: float) -> Process:
        """Take so long, and longer while others compute."""
        if self._cores is None:
            yield self._env.timeout(seconds)
            return
        left_s = seconds
        while left_s > 0:
            with self._cores.request() as core:
                yield core
                yield self._env.timeout(min(left_s, SLICE_S))
            left_s -= SLICE_S


@dataclass(slots=True)
class Request:
    """One request of a pool of passes."""

    units: float
    first: bool
    asked_s: float
    done: simpy.Event


class PassServer:
    """Computes batches, earliest deadline first."""

    def __init__(self, env: simpy.Environment, name: str, pool: Pool, processor: Processor, seen: Seen) -> None:
        assert isinstance(pool.law, PassLaw)
        self._env, self._name, self._law, self._max_batch = env, name, pool.law, pool.max_batch
        self._processor, self._seen = processor, seen
        self._waiting: list[tuple[float, int, Request]] = []
        self._numbers = count()
        self._wake = env.event()
        env.process(self._serve())

    def ask(self, units: float, *, deadline_s: float = 0.0, first: bool = False) -> simpy.Event:
        """Ask for so much work; the event comes when it is done."""
        request = Request(units, first, self._env.now, self._env.event())
        heapq.heappush(self._waiting, (deadline_s, next(self._numbers), request))
        if not self._wake.triggered:
            self._wake.succeed()
        return request.done

    def _serve(self) -> Process:
        while True:
            if not self._waiting:
                self._wake = self._env.event()
                yield self._wake
            size = min(self._max_batch, len(self._waiting))
            batch = [heapq.heappop(self._waiting)[2] for _ in range(size)]
            seconds = self._law.seconds(size, sum(r.units for r in batch), sum(r.first for r in batch))
            self._seen.busy_s[self._name] += seconds
            alone_s = sum(self._law.seconds(1, r.units, r.first) for r in batch)
            self._seen.delayed_s[self._name] += sum(self._env.now - r.asked_s + seconds for r in batch) - alone_s
            yield from self._processor.compute(seconds)
            for request in batch:
                request.done.succeed()


@dataclass(slots=True)
class Stream:
    """One sequence of a step server: what it has made, and who waits for which count."""

    prompt_tokens: int
    asked_s: float
    marks: list[tuple[int, simpy.Event]]
    made: int = 0


class StepServer:
    """Continuous batching: one token of each open sequence in a step, new ones join between steps."""

    def __init__(self, env: simpy.Environment, name: str, pool: Pool, processor: Processor, seen: Seen) -> None:
        assert isinstance(pool.law, StepLaw)
        self._env, self._name, self._law, self._max_batch = env, name, pool.law, pool.max_batch
        self._processor, self._seen = processor, seen
        self._waiting: list[Stream] = []
        self._open: list[Stream] = []
        self._wake = env.event()
        env.process(self._serve())

    def ask(self, prompt_tokens: int, marks: Iterable[int]) -> list[simpy.Event]:
        """Ask for tokens; an event comes when each of these ascending counts has been made."""
        events = [(mark, self._env.event()) for mark in marks]
        self._waiting.append(Stream(prompt_tokens, self._env.now, events[::-1]))
        if not self._wake.triggered:
            self._wake.succeed()
        return [event for _, event in events]

    def _serve(self) -> Process:
        while True:
            if not self._waiting and not self._open:
                self._wake = self._env.event()
                yield self._wake
            prompts_s = self._admit()
            steps, sequences = self._steps(), len(self._open)
            seconds = prompts_s + steps * self._law.seconds(sequences)
            self._seen.busy_s[self._name] += seconds
            self._seen.delayed_s[self._name] += sequences * (seconds - steps * self._law.seconds(1)) - prompts_s
            yield from self._processor.compute(seconds)
            for sequence in self._open:
                sequence.made += steps
                while sequence.marks and sequence.marks[-1][0] <= sequence.made:
                    sequence.marks.pop()[1].succeed()
            self._open = [sequence for sequence in self._open if sequence.marks]

    def _admit(self) -> float:
        """Let waiting sequences join; returns the seconds of their prompts."""
        seconds = 0.0
        while self._waiting and len(self._open) < self._max_batch:
            sequence = self._waiting.pop(0)
            self._seen.delayed_s[self._name] += self._env.now - sequence.asked_s
            seconds += self._law.prompt_seconds(sequence.prompt_tokens)
            self._open.append(sequence)
        return seconds

    def _steps(self) -> int:
        """Steps until somebody waits for what was made: nothing is to be seen between."""
        return min(4, *(sequence.marks[-1][0] - sequence.made for sequence in self._open))


class Rooms:
    """Every server of a deployment, by room; `next` gives the one whose turn it is."""

    def __init__(self, env: simpy.Environment, deployment: Deployment, seen: Seen) -> None:
        self.processor = Processor(env, deployment.cores)

        def passes(name: str) -> Iterator[PassServer]:
            pool = deployment.pool(name)
            return cycle([PassServer(env, name, pool, self.processor, seen) for _ in range(pool.servers)])

        def steps(name: str) -> Iterator[StepServer]:
            pool = deployment.pool(name)
            return cycle([StepServer(env, name, pool, self.processor, seen) for _ in range(pool.servers)])

        self.tokenizer, self.vocoder = passes("tokenizer"), passes("vocoder")
        self.lm, self.tts = steps("lm"), steps("tts")


class Reply:
    """One reply on its way: what of its speech is made, what the listener has."""

    def __init__(self, env: simpy.Environment, rooms: Rooms, habits: Habits, turn: Turn, released_s: float) -> None:
        self._env, self._rooms, self._habits, self._turn = env, rooms, habits, turn
        self._speech = 0
        self._made = env.event()
        self._all = sum(speech for _, speech in turn.clauses)
        self._released_s = released_s
        self.first_s = math.nan
        self.underran = False

    def run(self) -> Process:
        """Until all of it has been heard."""
        marks = _sums(text for text, _ in self._turn.clauses)
        written = next(self._rooms.lm).ask(self._turn.prompt_tokens, marks)
        self._env.process(self._speak(written))
        yield from self._sound()

    def _speak(self, written: Sequence[simpy.Event]) -> Process:
        for text, (_, speech) in zip(written, self._turn.clauses, strict=True):
            yield text
            group = self._habits.speech_group
            marks = [*range(group, speech, group), speech]
            before = 0
            for made, event in zip(
                marks, next(self._rooms.tts).ask(self._habits.clause_prompt_tokens, marks), strict=True
            ):
                yield event
                self._speech += made - before
                before = made
                self._made.succeed()
                self._made = self._env.event()

    def _sound(self) -> Process:
        habits, sent, wanted = self._habits, 0, self._habits.first_tokens
        dry_s = 0.0  # when the listener's buffer runs dry
        while sent < self._all:
            while self._speech - sent < min(wanted, self._all - sent):
                yield self._made
            wanted = 1
            tokens = min(self._speech - sent, habits.chunk_tokens)
            yield next(self._rooms.vocoder).ask(tokens, deadline_s=dry_s if sent else self._env.now, first=not sent)
            heard_s = max(self._env.now, self._released_s)
            if not sent:
                self.first_s = heard_s
            elif habits.plays and heard_s > max(dry_s, self._released_s):
                self.underran = True
            dry_s = max(dry_s, heard_s) + tokens * TOKEN_S
            sent += tokens
            yield from self._wait(sent * TOKEN_S, dry_s)
        if habits.plays:
            yield self._env.timeout(max(0.0, dry_s - self._env.now))

    def _wait(self, made_s: float, dry_s: float) -> Process:
        """Until more may be made: enough lies ahead of the listener, or of the end of the turn."""
        habits, now_s = self._habits, self._env.now
        if now_s < self._released_s and made_s >= habits.prepared_s:
            yield self._env.timeout(self._released_s - now_s)
        elif habits.plays and dry_s - now_s > habits.lead_s:
            yield self._env.timeout(dry_s - now_s - habits.lead_s)


def simulate(
    deployment: Deployment,
    conversations: int,
    draw: Turns,
    *,
    habits: Habits,
    seconds: float,
    warm_up_s: float,
    seed: int = 0,
) -> Seen:
    """Let so many people speak at once.

    Args:
        deployment: what computes.
        conversations: that are open all the time.
        draw: their turns.
        habits: of the pipeline.
        seconds: that are looked at.
        warm_up_s: before that.
        seed: of everything drawn.

    Returns:
        what was seen after the warm-up.
    """
    env = simpy.Environment()
    seen = Seen()
    rooms = Rooms(env, deployment, seen)
    for number in range(conversations):
        chance = random.Random(f"{seed} {number}")
        env.process(_converse(env, rooms, habits, draw, chance, seen=seen, warm_up_s=warm_up_s))
        if deployment.frame_s:
            env.process(_carry(env, rooms, deployment.frame_s))
    env.run(warm_up_s)
    busy_s, delayed_s = dict(seen.busy_s), dict(seen.delayed_s)
    env.run(warm_up_s + seconds)
    for name in POOLS:
        seen.busy_s[name] -= busy_s[name]
        seen.delayed_s[name] -= delayed_s[name]
    seen.measured_s = seconds
    return seen


def _converse(
    env: simpy.Environment,
    rooms: Rooms,
    habits: Habits,
    draw: Turns,
    chance: random.Random,
    *,
    seen: Seen,
    warm_up_s: float,
) -> Process:
    """One person, turn after turn; the first pause is spread so that people do not begin together."""
    turn = draw(chance)
    yield env.timeout(chance.uniform(0.0, turn.pause_s + turn.speech_s + turn.reply_s))
    while True:
        yield env.timeout(turn.pause_s)
        yield from _hear(env, rooms, habits, turn)
        ended_s = env.now
        tokens = next(rooms.tokenizer).ask(turn.speech_s % habits.hearing_s)
        yield env.timeout(habits.prepare_s)
        if not tokens.processed:
            yield tokens
        reply = Reply(env, rooms, habits, turn, released_s=ended_s + habits.endpointing_s)
        yield from reply.run()
        if env.now >= warm_up_s:
            seen.turns += 1
            seen.first_audio_s.append(reply.first_s - ended_s)
            seen.underrun_turns += reply.underran
        turn = draw(chance)


def _hear(env: simpy.Environment, rooms: Rooms, habits: Habits, turn: Turn) -> Process:
    """The user speaks, and the tokenizer hears it piece by piece; a hesitation is in the middle."""
    pieces = int(turn.speech_s / habits.hearing_s)
    for piece in range(pieces):
        yield env.timeout(habits.hearing_s)
        next(rooms.tokenizer).ask(habits.hearing_s)
        if piece == pieces // 2:
            for _ in range(turn.hesitations):
                env.process(_prepare_for_nothing(rooms, habits, turn))
    yield env.timeout(turn.speech_s % habits.hearing_s)


def _prepare_for_nothing(rooms: Rooms, habits: Habits, turn: Turn) -> Process:
    """The first clause as far as it is made ahead; that the user goes on mostly comes later."""
    text, speech = turn.clauses[0]
    yield next(rooms.lm).ask(turn.prompt_tokens, [text])[0]
    tokens = min(speech, math.ceil(habits.prepared_s / TOKEN_S))
    yield next(rooms.tts).ask(habits.clause_prompt_tokens, [tokens])[0]
    yield next(rooms.vocoder).ask(tokens, deadline_s=math.inf, first=True)


def _carry(env: simpy.Environment, rooms: Rooms, frame_s: float) -> Process:
    """The orchestrator's work for one conversation, a tenth of a second at once."""
    frames = 5
    while True:
        started_s = env.now
        yield from rooms.processor.compute(frames * frame_s)
        yield env.timeout(max(0.0, started_s + frames * FRAME_S - env.now))


def _sums(values: Iterable[int]) -> list[int]:
    total, sums = 0, []
    for value in values:
        total += value
        sums.append(total)
    return sums
