"""How long each room took, in wall and CPU seconds, against the audio it handled. Clocks are given from outside."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RoomTime:
    """The work of one room in one request.

    Attributes:
        room: its name, e.g. "tokenizer".
        wall_s: wall time.
        cpu_s: CPU time of this process, all threads together.
        audio_s: length of the audio that the work was for; 0 where there is none.
    """

    room: str
    wall_s: float
    cpu_s: float
    audio_s: float

    @property
    def rtf(self) -> float | None:
        """Wall time over audio time; None without audio. Below 1 is faster than real time."""
        return self.wall_s / self.audio_s if self.audio_s else None


class Stopwatch:
    """Adds up the time spent in each room.

    Args:
        wall: monotonic seconds.
        cpu: CPU seconds of the process.
    """

    def __init__(
        self, *, wall: Callable[[], float] = time.perf_counter, cpu: Callable[[], float] = time.process_time
    ) -> None:
        self._wall = wall
        self._cpu = cpu
        self._spent: dict[str, tuple[float, float]] = {}

    @contextmanager
    def room(self, name: str) -> Iterator[None]:
        """Count what runs inside towards a room, also when it fails."""
        wall_s, cpu_s = self._wall(), self._cpu()
        try:
            yield
        finally:
            before_wall_s, before_cpu_s = self._spent.get(name, (0.0, 0.0))
            self._spent[name] = (before_wall_s + self._wall() - wall_s, before_cpu_s + self._cpu() - cpu_s)

    def times(self, audio_s: Mapping[str, float]) -> tuple[RoomTime, ...]:
        """Give the times so far, in the order in which the rooms were first entered.

        Args:
            audio_s: room -> length of its audio.
        """
        return tuple(
            RoomTime(room=name, wall_s=wall_s, cpu_s=cpu_s, audio_s=audio_s.get(name, 0.0))
            for name, (wall_s, cpu_s) in self._spent.items()
        )
