"""Run every benchmark, one after the other, each in a process of its own: `python -m benchmarks`."""

import subprocess
import sys

BENCHMARKS = (
    "rooms",
    "batcher",
    "streaming_vocoder",
    "segmented_agreement",
    "rooms_over_triton",
    "first_audio",
    "wire_speech",
    "orchestrator",
    "frames",
    "context_window",
    "deadlines",
    "load",
    "failover",
    "rollout",
    "barge_in",
    "nano",
)


def main() -> int:
    """Return the exit code of the first benchmark that fails, else 0."""
    for name in BENCHMARKS:
        print(f"\n== benchmarks.{name}\n", flush=True)
        if code := subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
