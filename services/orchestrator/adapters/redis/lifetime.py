"""What a session is at a moment. Nothing runs to end a session whose owner died: whoever reads it works it out.

    renewed      lease runs out       resume window over          retention over
       │<── lease_s ──>│<── resume_window_s ──>│<──── retention_s ────>│<── margin_s ──>│
       live            detached                ended                   not found        the server forgets the keys

    An owner that says the client has gone begins the middle part at that moment; one that ends the session, the third.

A lease that has run out and that nobody took over may still be renewed: the fence alone decides who writes, and an
owner whose store was away for a while goes on. Source: `SessionState`, `Session.expire_time` of session.proto.
"""

from dataclasses import dataclass
from typing import Final

LIVE: Final = "live"
DETACHED: Final = "detached"
ENDED: Final = "ended"


@dataclass(frozen=True, slots=True)
class SessionTimes:
    """How long things hold, in seconds.

    Attributes:
        lease_s: an owner that is not heard of for so long is taken to be dead; it renews several times as often.
        resume_window_s: how long a session without a client waits for one.
        margin_s: how much longer than promised the server keeps the keys: clocks of replicas differ by less.
        tombstone_s: how long a deleted session is remembered, so that its owner learns of it.
    """

    lease_s: float = 15.0
    resume_window_s: float = 120.0
    margin_s: float = 60.0
    tombstone_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Marks:
    """When what happened to a session, in wall-clock seconds.

    Attributes:
        renewed_s: its owner was last heard of.
        detached_s: its client went; None while there is one.
        ended_s: its owner ended it; None if it did not.
        retention_s: how long it can be read once it is over.
    """

    renewed_s: float
    detached_s: float | None
    ended_s: float | None
    retention_s: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A session at a moment.

    Attributes:
        state: "live", "detached" or "ended".
        expire_s: when it is deleted by itself; None while it is live.
        is_expired: it is deleted.
    """

    state: str
    expire_s: float | None
    is_expired: bool


def judge(marks: Marks, times: SessionTimes, now_s: float) -> Standing:
    """What a session is now."""
    lease_end_s = marks.renewed_s + times.lease_s
    if marks.ended_s is None and marks.detached_s is None and now_s < lease_end_s:
        return Standing(LIVE, None, is_expired=False)
    alone_s = lease_end_s if marks.detached_s is None else marks.detached_s
    over_s = alone_s + times.resume_window_s if marks.ended_s is None else marks.ended_s
    expire_s = over_s + marks.retention_s
    return Standing(DETACHED if now_s < over_s else ENDED, expire_s, is_expired=now_s >= expire_s)


def keep_s(times: SessionTimes) -> float:
    """How long beyond its retention the server keeps a session's keys, if nobody writes it any more."""
    return times.lease_s + times.resume_window_s + times.margin_s
