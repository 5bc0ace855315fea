"""This server beside pipecat and LiveKit Agents, on the same audio and the same stub rooms, in one run.

    python -m benchmarks.peers --python ENVIRONMENT/bin/python [--quick] [--sessions N …] [--json FILE]

The frameworks' packages do not go together with this project's (soundfile), so they have an environment of their own:

    python3.11 -m venv ENVIRONMENT && ENVIRONMENT/bin/pip install -r benchmarks/peers/requirements.txt

 * frames: processor time of a process for 20 ms in and 20 ms out, above that of the callers alone; with each one's own
   Silero, and deaf, which is the framework by itself.
 * turns: from the end of speech to the first audio, less the silence that was asked for and what the stubs took.

Everyone runs in a process of its own, by turns, and nobody has a transport; two more rows add this server's own. A
window in which the machine did not let frames through in time is measured again, a few times at most.
"""

import argparse
import asyncio
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.orchestrator import cost_us as wire_cost_us
from benchmarks.peers.figures import Overhead, above, cost_us, evenness, overheads, ratios
from benchmarks.peers.scene import SILENCE_MS, Turn
from benchmarks.report import machine, percentile, table, write_json
from benchmarks.stub_clients import server_process
from services.local.settings import ROOT

CLIP: Final = ROOT / "benchmarks/data/nano_questions/wav/demo_00.wav"
OUT: Final = ROOT / "out/peers.json"
OURS: Final = "ours"
PEERS: Final = {"with_pipecat": "pipecat-ai", "with_livekit": "livekit-agents"}
API: Final = "ours_api"
KINDS: Final = (OURS, API, *PEERS)
NAMES: Final = {"alone": "the driver", OURS: "ours", API: "ours, with the API's messages", **PEERS}
TRIES: Final = 3
EVEN: Final = 0.9
START_S: Final = 60.0
WIRES: Final = ("echo", "silero")
Costs = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    sessions: tuple[int, ...]
    rounds: int
    window_s: float
    turn_sessions: int
    turns_s: float


FULL: Final = Plan((1, 5, 10), 5, 8.0, 5, 60.0)
QUICK: Final = Plan((2,), 2, 4.0, 4, 25.0)


class Drivers:
    """Runs `benchmarks.peers.driver`.

    Args:
        python: that has the frameworks.
        clip: the user's speech, as PCM16 at 16 kHz.
    """

    def __init__(self, python: Path, clip: Path) -> None:
        self._python = python
        self._clip = clip

    def run(self, kind: str, scenario: str, *, sessions: int, seconds: float) -> dict[str, Any]:
        """What a driver told; it is ended where it takes far too long."""
        python = str(self._python) if kind in PEERS else sys.executable
        command = (python, "-m", "benchmarks.peers.driver", kind, scenario, str(self._clip), str(sessions))
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            (*command, str(seconds)),
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds + START_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{kind} failed:\n{done.stderr[-4000:]}")
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told

    def version(self, package: str) -> str:
        """Of a package in the frameworks' environment."""
        code = f"import importlib.metadata; print(importlib.metadata.version({package!r}))"
        return subprocess.run((self._python, "-c", code), capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="the interpreter that has the frameworks")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--sessions", type=int, nargs="+", help="how many share a process, for the frames")
    parser.add_argument("--json", type=Path, default=OUT, help="where all figures are written")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL
    if arguments.sessions:
        plan = replace(plan, sessions=tuple(arguments.sessions))
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.pcm"
        with wave.open(str(CLIP)) as file:
            clip.write_bytes(file.readframes(file.getnframes()))
        drivers = Drivers(arguments.python, clip)
        versions = {package: drivers.version(package) for package in PEERS.values()}
        print(machine(), versions, sep="\n")
        found: dict[str, Any] = {"versions": versions, "frames": {}, "turns": {}}
        for sessions in plan.sessions:
            costs = frames(drivers, plan, sessions)
            found["frames"][str(sessions)] = costs
            print(f"\n{sessions} sessions, microseconds of processor time for 20 ms in and 20 ms out:\n")
            print(cost_table(costs), flush=True)
        turns = {kind: answered(drivers, kind, plan) for kind in KINDS}
    print(
        f"\nfrom the end of speech to the first audio, ms above {SILENCE_MS} of silence and the stubs' time, medians:\n"
    )
    print(turn_table(turns))
    found["turns"] = {kind: [(each.ending_s, each.reply_s) for each in turns[kind]] for kind in KINDS}
    write_json(arguments.json, found)


def frames(drivers: Drivers, plan: Plan, sessions: int) -> Costs:
    """Microseconds for a frame both ways, by who and how, a figure for each round; everyone takes turns."""
    costs: Costs = {}
    for _ in range(plan.rounds):
        for kind, scenario in (("alone", "frames"), *((kind, how) for kind in KINDS for how in ("frames", "deaf"))):
            cost = frame_cost_us(drivers, kind, scenario, sessions=sessions, window_s=plan.window_s)
            costs.setdefault(f"{kind} {scenario}", []).append(cost)
        for wire in WIRES:
            costs.setdefault(f"wire {wire}", []).append(asyncio.run(over_the_wire(wire, sessions, plan.window_s)))
    return costs


def frame_cost_us(drivers: Drivers, kind: str, scenario: str, *, sessions: int, window_s: float) -> float:
    """Of the first window in which frames went both ways as they should, or of the best of some, which is told."""
    best, best_share = math.nan, 0.0
    for _ in range(TRIES):
        told = drivers.run(kind, scenario, sessions=sessions, seconds=window_s)
        share = evenness(told["frames_due"], told["frames_in"], told["frames_out"])
        if share > best_share:
            best, best_share = cost_us(told["used_s"], told["frames_in"], told["frames_out"]), share
        if share >= EVEN:
            return best
    print(f"{NAMES[kind]}, {scenario}: {best_share:.0%} of the frames at best", file=sys.stderr, flush=True)
    return best


async def over_the_wire(kind: str, sessions: int, window_s: float) -> float:
    """The server's process behind its own gRPC; `echo` is grpc.aio alone."""
    async with server_process(kind) as server:
        return await wire_cost_us(server, sessions, window_s)


def answered(drivers: Drivers, kind: str, plan: Plan) -> list[Overhead]:
    """Every answered turn of one."""
    told = drivers.run(kind, "turns", sessions=plan.turn_sessions, seconds=plan.turns_s)
    found: list[Overhead] = []
    for turns in told["turns"]:
        found.extend(overheads([Turn(**turn) for turn in turns]))
    return found


def cost_table(costs: Mapping[str, Sequence[float]]) -> str:
    """Everyone above the callers alone, and ours as a share of it."""
    header = ("", "with its Silero", "ours / it", "deaf", "ours / it")
    by_scenario = {
        how: {kind: above(costs[f"{kind} {how}"], costs["alone frames"]) for kind in KINDS}
        for how in ("frames", "deaf")
    }
    shares = {how: ratios(figures, OURS) for how, figures in by_scenario.items()}
    rows = []
    for kind in KINDS:
        cells = [NAMES[kind]]
        for how in ("frames", "deaf"):
            cells.append(f"{by_scenario[how][kind]:.0f}")
            cells.append(f"{shares[how][kind]:.2f}" if kind in PEERS else "")
        rows.append(cells)
    bare, whole = (statistics.median(costs[f"wire {wire}"]) for wire in WIRES)
    rows.append(["ours over gRPC, all of it", f"{whole:.0f}", "", "", ""])
    rows.append(["grpc.aio alone", f"{bare:.0f}", "", "", ""])
    return table(header, rows)


def turn_table(turns: Mapping[str, Sequence[Overhead]]) -> str:
    """Medians by part, and ours as a share, except of one that the machine gave no time to answer its turns."""
    most = max(map(len, turns.values()))
    medians = {kind: statistics.median(each.whole_s for each in found) for kind, found in turns.items()}
    shares = ratios(medians, OURS)
    rows = []
    for kind, found in turns.items():
        parts = [
            1000 * statistics.median(values) for values in zip(*((e.ending_s, e.reply_s) for e in found), strict=True)
        ]
        worst = 1000 * percentile([each.whole_s for each in found], 95)
        share = f"{shares[kind]:.2f}" if kind in PEERS and len(found) >= EVEN * most else ""
        figures = [f"{value:.1f}" for value in (*parts, 1000 * medians[kind], worst)]
        rows.append((NAMES[kind], len(found), *figures, share))
    return table(("", "turns", "to the question", "to the answer", "both", "95 %", "ours / it"), rows)


if __name__ == "__main__":
    main()
