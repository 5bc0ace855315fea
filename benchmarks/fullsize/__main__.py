"""Drive random checkpoints of the public sizes through everything that the public ones will meet, on the CPU.

    python -m benchmarks.fullsize [--rooms vocoder tokenizer tts] [--work out/fullsize] [--threads 1] [--keep]

Each stage is a process of its own, one after another, so that its memory is its own; the table gives the most memory
that it had at one time and its processor time. A room whose free memory or disk is not there is refused before it
begins. The weights are deleted at the end of their room. Exports need the extra `engine`, servers the extra `local`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch

from benchmarks.fullsize.stages import STAGES
from benchmarks.fullsize.usage import peak_mib
from benchmarks.report import machine, table
from services.shared import paths

NEEDED_MIB: Final = {"vocoder": 4_000, "tokenizer": 4_000, "tts": 9_500}
"""Free memory with which a room's stages get through; as much disk."""
HEADER: Final = ("room", "stage", "peak MiB", "CPU s", "wall s", "what came out")


@dataclass(frozen=True, slots=True)
class Row:
    """One stage: what it used and what came out."""

    room: str
    stage: str
    ok: bool
    peak_mib: int
    cpu_s: float
    wall_s: float
    told: str


def main() -> int:
    """Run and print; 1 where a stage failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", nargs="+", choices=tuple(STAGES), default=list(STAGES))
    parser.add_argument("--work", type=Path, default=Path("out/fullsize"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave weights and graphs where they are")
    parser.add_argument("--stage", nargs=2, metavar=("ROOM", "STAGE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        room, stage = options.stage
        return run_stage(room, stage, options.work, options.threads)
    print(machine())
    rows = [row for room in options.rooms for row in run_room(room, options)]
    print(table(HEADER, [(r.room, r.stage, r.peak_mib, f"{r.cpu_s:.0f}", f"{r.wall_s:.0f}", r.told) for r in rows]))
    (options.work / "result.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0 if all(row.ok for row in rows) else 1


def run_room(room: str, options: argparse.Namespace) -> list[Row]:
    """All stages of a room, up to the first that fails."""
    options.work.mkdir(parents=True, exist_ok=True)
    lacking = lacking_mib(room, options.work)
    if lacking:
        return [Row(room, "room to work", False, 0, 0.0, 0.0, f"not begun: {lacking}")]
    rows: list[Row] = []
    try:
        for stage in STAGES[room]:
            rows.append(measured(room, stage, options))
            print(f"{room} {stage}: {rows[-1].told}", file=sys.stderr, flush=True)
            if not rows[-1].ok:
                break
    finally:
        if not options.keep:
            clear(room, options.work)
    return rows


def lacking_mib(room: str, work: Path) -> str:
    """What of memory or disk is too small for a room; empty if nothing."""
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    free = {"memory": int(memory.split()[1]) // 1024, "disk": shutil.disk_usage(work).free >> 20}
    short = [f"{free[what]} MiB of {what} free" for what in free if free[what] < NEEDED_MIB[room]]
    return f"{' and '.join(short)}, {NEEDED_MIB[room]} MiB needed" if short else ""


def measured(room: str, stage: str, options: argparse.Namespace) -> Row:
    """Run a stage in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.fullsize", "--work", str(options.work), "--stage", room, stage]
    threads = str(options.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "STEPAUDIO_DTYPE": _DTYPES.get(room, "float32")}
    started_s = time.monotonic()
    with subprocess.Popen(
        [*command, "--threads", threads], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        out, err = process.communicate()
    wall_s = time.monotonic() - started_s
    last = out.strip().splitlines()[-1:] or ["{}"]
    if process.returncode:
        reason = err.strip().splitlines()[-1:] or [f"ended with {process.returncode}"]
        return Row(room, stage, False, 0, 0.0, wall_s, f"FAILED: {reason[0]}")
    return Row(room, stage, True, wall_s=wall_s, **json.loads(last[0]))


_DTYPES: Final = {"tts": "bfloat16"}


def run_stage(room: str, stage: str, work: Path, threads: int) -> int:
    """Run a stage here, and print what it used as one line of JSON."""
    torch.set_num_threads(threads)
    checkpoints, cache = work / "checkpoints", work / "graphs"
    for folder in (checkpoints, cache):
        folder.mkdir(parents=True, exist_ok=True)
    told = STAGES[room][stage](checkpoints, cache)
    times = os.times()
    cpu_s = times.user + times.system + times.children_user + times.children_system
    print(json.dumps({"peak_mib": peak_mib(), "cpu_s": cpu_s, "told": told}))
    return 0


def clear(room: str, work: Path) -> None:
    """Delete what a room's stages wrote."""
    folders = {
        "vocoder": [work / "checkpoints" / paths.TTS_FOLDER / paths.VOCODER_FOLDER],
        "tokenizer": [work / "checkpoints" / paths.TOKENIZER_FOLDER],
        "tts": [work / "checkpoints" / paths.TTS_FOLDER],
    }
    for folder in (*folders[room], work / "graphs"):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
