"""The states of a session over time, by the table of the module."""

import pytest

from services.orchestrator.adapters.redis.lifetime import Marks, SessionTimes, Standing, judge, keep_s

pytestmark = pytest.mark.unit

TIMES = SessionTimes(lease_s=10, resume_window_s=100, margin_s=5, tombstone_s=50)


@pytest.mark.parametrize(
    ("marks", "now_s", "standing"),
    [
        (Marks(0, None, None, 30), 9.9, Standing("live", None, is_expired=False)),
        (Marks(0, None, None, 30), 10, Standing("detached", 140, is_expired=False)),
        (Marks(0, None, None, 30), 110, Standing("ended", 140, is_expired=False)),
        (Marks(0, None, None, 30), 140, Standing("ended", 140, is_expired=True)),
        (Marks(0, None, None, 0), 110, Standing("ended", 110, is_expired=True)),
        (Marks(9, 2, None, 30), 9, Standing("detached", 132, is_expired=False)),
        (Marks(101, 2, None, 30), 102, Standing("ended", 132, is_expired=False)),
        (Marks(5, None, 6, 30), 6, Standing("ended", 36, is_expired=False)),
        (Marks(5, 4, 6, 30), 36, Standing("ended", 36, is_expired=True)),
    ],
)
def test_what_a_session_is_at_a_moment(marks: Marks, now_s: float, standing: Standing) -> None:
    assert judge(marks, TIMES, now_s) == standing


def test_the_server_keeps_the_keys_longer_than_a_session_can_be_read() -> None:
    never_again = Marks(0, None, None, 30)
    expire_s = judge(never_again, TIMES, 20).expire_s
    assert expire_s is not None
    assert 30 + keep_s(TIMES) == expire_s + TIMES.margin_s
