"""How many servers conversations need, and whether that can be believed.

    python -m benchmarks.capacity size  [--conversations 40] [--profile h800x8 | FILE]
    python -m benchmarks.capacity sweep [--quick]                from 10 to 100,000 conversations, each profile
    python -m benchmarks.capacity check [--quick] [--laws FILE]  measure rooms, predict, measure, compare

Profiles are those of laws.py, whose GPU figures are estimates, or a file of the same form (`check --laws FILE`).
"""

import argparse
import time
from pathlib import Path
from typing import Final

from benchmarks.capacity.laws import DEPLOYMENTS, POOLS, Deployment, read_deployment
from benchmarks.capacity.sizing import Objectives, Size, delays_ms, run, scaled, size
from benchmarks.report import machine, percentile, table

DIRECT: Final = 1000
"""Conversations up to which servers are searched for; above, those of this many are scaled and held against it."""
SWEEP: Final = (10, 40, 100, 400, 1000, 10_000, 100_000)
QUICK_SWEEP: Final = (10, 100, 2000)


def main() -> None:
    """Answer and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("size", "sweep", "check"))
    parser.add_argument("--conversations", type=int, default=40)
    parser.add_argument("--profile", default="h800x8", help="a name or a file")
    parser.add_argument("--first-audio", type=float, default=Objectives().first_audio_s, help="seconds, 95 %% of turns")
    parser.add_argument("--underruns", type=float, default=Objectives().underruns, help="share of turns")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--laws", type=Path, help="of `check`: also write the measured laws to this file")
    chosen = parser.parse_args()
    objectives = Objectives(chosen.first_audio, chosen.underruns)
    if chosen.command == "check":
        from benchmarks.capacity.check import check  # the rooms' packages are needed for this one alone

        print(machine())
        print(check(quick=chosen.quick, laws_file=chosen.laws))
    elif chosen.command == "size":
        print(answers([size(profile(chosen.profile), chosen.conversations, objectives)]))
    else:
        for deployment in DEPLOYMENTS.values():
            print(f"\n{deployment.name} ({deployment.source})\n")
            print(sweep(deployment, QUICK_SWEEP if chosen.quick else SWEEP, objectives))


def profile(name: str) -> Deployment:
    """A known one, or one of a file."""
    return DEPLOYMENTS[name] if name in DEPLOYMENTS else read_deployment(Path(name))


def sweep(deployment: Deployment, numbers: tuple[int, ...], objectives: Objectives) -> str:
    """Sizes for so many conversations each."""
    found: list[Size] = []
    for number in numbers:
        started_s = time.perf_counter()
        if number <= DIRECT or not found:
            found.append(size(deployment, number, objectives))
        else:
            larger = scaled(found[-1], number)
            found.append(Size(number, larger, run(larger, number)))
        print(f"{number} conversations: {time.perf_counter() - started_s:.0f} s", flush=True)
    return answers(found)


def answers(sizes: list[Size]) -> str:
    """A table of sizes, with what was seen of each."""
    rows = [
        (
            size.conversations,
            " : ".join(str(size.deployment.pool(name).servers) for name in POOLS),
            f"{size.deployment.gpus:g}",
            f"{size.conversations / size.deployment.gpus:.1f}",
            size.seen.turns,
            f"{percentile(size.seen.first_audio_s, 50):.2f}",
            f"{percentile(size.seen.first_audio_s, 95):.2f}",
            f"{100 * size.seen.underrun_turns / size.seen.turns:.2f}",
            " : ".join(f"{delay:.0f}" for delay in delays_ms(size.seen).values()),
        )
        for size in sizes
    ]
    header = (
        "conversations",
        "servers, " + " : ".join(POOLS),
        "GPUs",
        "conversations a GPU",
        "turns seen",
        "first audio s, median",
        "95 %",
        "underruns %",
        "held up by others, ms a turn",
    )
    return table(header, rows)


if __name__ == "__main__":
    main()
