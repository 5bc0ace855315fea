"""`python -m protos`: generate, lint and check the public API."""

import argparse
import sys

from protos import toolchain


def main() -> int:
    """Run one task; the exit status is 0 where all is well, 1 with findings, 2 where a tool could not work."""
    parser = argparse.ArgumentParser(prog="python -m protos", description="the public API: stubs, lint, compatibility")
    tasks = parser.add_subparsers(dest="task", required=True)
    tasks.add_parser("generate", help="write protos/gen and the table of errors in docs/api.md")
    tasks.add_parser("lint", help="hold the .proto files to buf's rules")
    breaking = tasks.add_parser("breaking", help="refuse changes that break clients of another revision")
    breaking.add_argument("--against", default="main", metavar="REVISION", help="git revision to compare with")
    options = parser.parse_args()
    try:
        findings = _run(options)
    except toolchain.ToolError as error:
        print(error, file=sys.stderr)
        return 2
    if findings:
        print(findings, file=sys.stderr)
    return 1 if findings else 0


def _run(options: argparse.Namespace) -> str:
    if options.task == "generate":
        toolchain.generate()
        return ""
    return toolchain.lint() if options.task == "lint" else toolchain.breaking(options.against)


if __name__ == "__main__":
    sys.exit(main())
