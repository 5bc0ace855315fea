"""Processor time of running processes, to the nanosecond: what stays comparable where a machine has other work too."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")


def descendants(parents: dict[int, int], leaders: Iterable[int]) -> set[int]:
    """Processes with all that they started.

    Args:
        parents: process -> the process that started it.
        leaders: those whose families are wanted.
    """
    family = set(leaders)
    while children := {process for process, parent in parents.items() if parent in family} - family:
        family |= children
    return family


def family_of(leaders: Iterable[int]) -> set[int]:
    """The processes that run now, with all that they started."""
    parents = {}
    for folder in _PROC.glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(folder.name)] = int(fields[1])
    return descendants(parents, leaders)


def processor_s(processes: Iterable[int]) -> float:
    """Processor time used so far by all threads that these processes have now; Linux's schedstat counts nanoseconds."""
    used_ns = 0
    for process in processes:
        for thread in (_PROC / str(process) / "task").glob("*"):
            try:
                used_ns += int((thread / "schedstat").read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return used_ns / 1e9
