"""Work of an older epoch is dropped, and nothing else is."""

import pytest

from services.shared.errors import CancelledRequestError
from services.shared.serving.epochs import EpochGate
from services.shared.triton import RequestContext

pytestmark = pytest.mark.unit


def test_work_of_an_older_epoch_of_the_session_is_refused() -> None:
    gate = EpochGate()
    gate.admit(RequestContext("a", 1, 5))
    gate.admit(RequestContext("a", 1, 5))
    with pytest.raises(CancelledRequestError, match="epoch 4 is over: the session has reached epoch 5"):
        gate.admit(RequestContext("a", 1, 4))


def test_running_work_becomes_stale_when_a_newer_epoch_is_heard_of() -> None:
    gate = EpochGate()
    running = RequestContext("a", 1, 1)
    gate.admit(running)
    assert not gate.is_stale(running)
    gate.admit(RequestContext("a", 2, 2))
    assert gate.is_stale(running)


def test_sessions_and_work_without_a_session_do_not_touch_each_other() -> None:
    gate = EpochGate()
    gate.admit(RequestContext("a", 1, 9))
    gate.admit(RequestContext("b", 1, 0))
    gate.admit(RequestContext())
    gate.admit(RequestContext("", 0, -5))


def test_the_session_unheard_for_longest_is_forgotten_first() -> None:
    gate = EpochGate(sessions=2)
    for session in ("a", "b", "a", "c"):
        gate.admit(RequestContext(session, 1, 5))
    assert gate.is_stale(RequestContext("a", 1, 4))
    assert not gate.is_stale(RequestContext("b", 1, 4))
