"""What the order of a vocoder's queue is worth to listeners, in virtual time.

    python -m benchmarks.deadlines [--quick] [--json FILE]

Sessions begin one after another, each listens to a reply that its vocoder makes chunk by chunk, and asks for the next
one as soon as the one before came, at most 3 s ahead of the ear. One room makes batches of up to eight, a pass costs a
fixed part and a part for each chunk in it, and the batch is formed by the order of arrival, by Triton's levels of
slack, or by exact deadlines. Times are those of the model of a room below, not of a machine; read the columns side by
side: same sessions, same chunks, same costs.
"""

import argparse
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.report import percentile, table, write_json
from services.shared.triton.context import RequestContext

BATCH: Final = 8
PASS_S: Final = 0.06
CHUNK_S: Final = 0.05
LEAD_S: Final = 3.0
REPLY_S: Final = 12.0
GAP_S: Final = 2.0
"""The user's part between two replies of a session."""
FIRST_S: Final = 0.5
LATER_S: Final = 1.5
"""Audio of a reply's first chunk, and of each later one."""


@dataclass(slots=True)
class Listener:
    """One session: what it has to hear, and what came of it."""

    asks_s: float = 0.0
    begun_s: float | None = None
    made_s: float = 0.0
    dry: int = 0
    replies: int = 0
    waits_s: list[float] = field(default_factory=list)

    def lead_s(self, now_s: float) -> float:
        """Audio ahead of the ear; below 0, how long it has been dry."""
        return 0.0 if self.begun_s is None else self.made_s - (now_s - self.begun_s)

    def take(self, now_s: float) -> None:
        """A chunk came: hear it, and know when the next one is asked for."""
        if self.begun_s is None:
            self.waits_s.append(now_s - self.asks_s)
            self.begun_s, self.made_s = now_s, FIRST_S
        else:
            late_s = -self.lead_s(now_s)
            if late_s > 0:
                self.dry += 1
                self.begun_s += late_s
            self.made_s += LATER_S
        self.asks_s = now_s + max(0.0, self.lead_s(now_s) + LATER_S - LEAD_S)
        if self.made_s >= REPLY_S:
            self.asks_s, self.begun_s = now_s + max(self.lead_s(now_s), 0.0) + GAP_S, None
            self.made_s = 0.0
            self.replies += 1


@dataclass(frozen=True, slots=True)
class Figures:
    """One order with so many sessions: turns with an underrun in a hundred replies, underruns, first chunks."""

    sessions: int
    order: str
    underruns_per_100_replies: float
    first_chunk_p50_s: float
    first_chunk_p95_s: float


Order = Callable[[Listener, float], float]
"""What a waiting request is sorted by, known when it is asked for."""

ORDERS: Final[dict[str, Order]] = {
    "arrival": lambda listener, asked_s: asked_s,
    "levels of slack": lambda listener, asked_s: (
        RequestContext(slack_ms=max(0, int(listener.lead_s(asked_s) * 1000))).priority * 1e6 + asked_s
    ),
    "exact deadlines": lambda listener, asked_s: asked_s + max(0.0, listener.lead_s(asked_s)),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    arguments = parser.parse_args()
    minutes = 2 if arguments.quick else 20
    figures = [measured(sessions, name, minutes * 60.0) for sessions in (16, 20, 24, 28) for name in ORDERS]
    rows = [
        (
            f.sessions,
            f.order,
            f"{f.underruns_per_100_replies:.1f}",
            f"{1000 * f.first_chunk_p50_s:.0f}",
            f"{1000 * f.first_chunk_p95_s:.0f}",
        )
        for f in figures
    ]
    print(table(("sessions", "order", "underruns in 100 replies", "first chunk p50 ms", "p95 ms"), rows))
    write_json(arguments.json, [asdict(f) for f in figures])


def measured(sessions: int, name: str, length_s: float) -> Figures:
    """Let so many sessions talk for so long."""
    chance, order = random.Random(7), ORDERS[name]
    listeners = [Listener(asks_s=chance.uniform(0, REPLY_S)) for _ in range(sessions)]
    now_s = 0.0
    while now_s < length_s:
        waiting = [listener for listener in listeners if listener.asks_s <= now_s]
        if not waiting:
            now_s = min(listener.asks_s for listener in listeners)
            continue
        waiting.sort(key=lambda listener: order(listener, listener.asks_s))
        batch = waiting[:BATCH]
        now_s += PASS_S + CHUNK_S * len(batch)
        for listener in batch:
            listener.take(now_s)
    replies = sum(listener.replies for listener in listeners)
    waits_s = [wait_s for listener in listeners for wait_s in listener.waits_s]
    dry = 100 * sum(listener.dry for listener in listeners) / replies
    return Figures(sessions, name, dry, percentile(waits_s, 50), percentile(waits_s, 95))


if __name__ == "__main__":
    main()
