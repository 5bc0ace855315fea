"""What every benchmark shares: the line about the machine, a Markdown table, and timing by turns."""

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch


def machine() -> str:
    """One line: processor, cores, vector features that matter, torch and Python versions."""
    cpu = "unknown processor"
    features = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        text = info.read_text()
        cpu = next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), cpu)
        flags = next((line.split(":", 1)[1].split() for line in text.splitlines() if line.startswith("flags")), [])
        features = ", ".join(name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags)
    return f"{cpu} ({os.cpu_count()} cores; {features}), torch {torch.__version__}, Python {platform.python_version()}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def write_json(path: Path | None, value: object) -> None:
    """Write figures to a file, whose folder is made; no path writes nothing."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so many per cent of all do not exceed; of no values, NaN."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)] if ordered else math.nan


def by_turns(
    ways: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Time several ways of one job in turn, A B A B …, so that a drifting machine is fair to each.

    Args:
        ways: name -> job.
        rounds: counted runs of each.
        warm_up: run each once uncounted first.
        clock: what is measured, in seconds; wall time by default.

    Returns:
        name -> median seconds.
    """
    if warm_up:
        for job in ways.values():
            job()
    times_s: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, job in ways.items():
            started_s = clock()
            job()
            times_s[name].append(clock() - started_s)
    return {name: statistics.median(values) for name, values in times_s.items()}
