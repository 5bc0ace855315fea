"""What a process used, as the kernel counts it."""

from pathlib import Path


def peak_mib(pid: int | str = "self") -> int:
    """The most memory that a process had at one time, mapped files that it read included; 0 if it has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)
