"""Room times: what is counted towards a room, and the factor against real time."""

import pytest

from services.offline.timing import RoomTime, Stopwatch

pytestmark = pytest.mark.unit


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def fail_at(watch: Stopwatch, wall: Clock, now_s: float) -> None:
    with watch.room("tts"):
        wall.now_s = now_s
        raise ZeroDivisionError


def test_a_room_entered_twice_adds_up_and_failures_count() -> None:
    wall, cpu = Clock(), Clock()
    watch = Stopwatch(wall=wall, cpu=cpu)

    with watch.room("tts"):
        wall.now_s, cpu.now_s = 2.0, 1.0
    wall.now_s = 10.0
    with pytest.raises(ZeroDivisionError):
        fail_at(watch, wall, 11.0)
    with watch.room("vocoder"):
        wall.now_s = 11.5

    assert watch.times({"tts": 6.0}) == (
        RoomTime(room="tts", wall_s=3.0, cpu_s=1.0, audio_s=6.0),
        RoomTime(room="vocoder", wall_s=0.5, cpu_s=0.0, audio_s=0.0),
    )


def test_the_factor_is_time_over_audio_and_absent_without_audio() -> None:
    assert RoomTime("tts", wall_s=3.0, cpu_s=1.5, audio_s=6.0).rtf == 0.5
    assert RoomTime("tts", wall_s=3.0, cpu_s=1.5, audio_s=0.0).rtf is None
