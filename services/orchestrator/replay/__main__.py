"""Play recordings: `python -m services.orchestrator.replay FILE…`; 0 if all is as it was, 1 if not, 2 if unreadable.

With `--accept` the files are written anew with what this release does: after a change of behaviour that was meant.
"""

import argparse
import sys
from pathlib import Path

from services.orchestrator.replay.lines import read_recording
from services.orchestrator.replay.player import first_difference, replayed
from services.shared.errors import InvalidInputError


def main(arguments: list[str] | None = None) -> int:
    """Play each file and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m services.orchestrator.replay", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--accept", action="store_true", help="write the files anew with what this release does")
    asked = parser.parse_args(arguments)
    return max(_play(path, accepts=asked.accept) for path in asked.files)


def _play(path: Path, *, accepts: bool) -> int:
    try:
        recording = read_recording(path.read_bytes())
    except OSError as error:
        sys.stderr.write(f"{path}: {error.strerror or error}\n")
        return 2
    except InvalidInputError as error:
        sys.stderr.write(f"{path}: {error}\n")
        return 2
    difference = first_difference(recording)
    if difference is None:
        cut = "; more happened than is recorded" if recording.is_cut else ""
        sys.stdout.write(f"{path}: {len(recording.steps)} events, as recorded{cut}\n")
        return 0
    sys.stdout.write(f"{path}: {difference}\n")
    if accepts:
        path.write_text(replayed(recording), encoding="utf-8")
        sys.stdout.write(f"{path}: written anew\n")
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
