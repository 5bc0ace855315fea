"""Folders and archives of Debian that stand in for what no registry is there to give: the machine of podman, and bases.

    tools        Debian trixie with podman: the root of the namespaces
    python       Debian bookworm with its Python 3.11, laid out as the wanted base image has it
    redis        Debian trixie with its Redis 8, as the chart's image has another Redis 8

Made by mmdebstrap, whose package is only unpacked. Each is made once, and kept.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MAKE_S: Final = 3_000
"""Longest for one root; the packages come over the network."""

_PYTHON_LAYOUT: Final = (
    "for name in python3 python; do ln -s /usr/bin/python3.11 $1/usr/local/bin/$name; done; "
    "ln -s /usr/bin/pip3 $1/usr/local/bin/pip; rm $1/usr/lib/python3.11/EXTERNALLY-MANAGED; "
    "ln -s /usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0 $1/usr/local/lib/"
)
_REDIS_LAYOUT: Final = "for name in server cli sentinel; do ln -s /usr/bin/redis-$name $1/usr/local/bin/; done"


@dataclass(frozen=True, slots=True)
class Root:
    """What one root is made of.

    Attributes:
        name: of the folder or archive.
        suite: of Debian.
        packages: to be installed.
        hook: a last shell command with the root as $1; '' for none.
        image: the base image that an archive stands in for; '' for a folder.
    """

    name: str
    suite: str
    packages: tuple[str, ...]
    hook: str = ""
    image: str = ""

    def path(self, folder: Path) -> Path:
        """Where it is kept in a folder of roots."""
        return folder / (f"{self.name}.tar" if self.image else self.name)


TOOLS: Final = Root(
    "tools",
    "trixie",
    (
        "podman",
        "crun",
        "netavark",
        "aardvark-dns",
        "nftables",
        "iproute2",
        "mount",
        "hostname",
        "catatonit",
        "ca-certificates",
    ),
)
PYTHON: Final = Root(
    "python",
    "bookworm",
    ("python3.11", "python3-pip", "python3.11-venv", "python3-venv", "libpython3.11", "ca-certificates"),
    _PYTHON_LAYOUT,
    "docker.io/library/python:3.11-slim-bookworm",
)


def redis(image: str) -> Root:
    """The store's base. Args: image: the one that the chart names."""
    return Root("redis", "trixie", ("redis-server", "redis-tools"), _REDIS_LAYOUT, image)


def make(root: Root, folder: Path) -> bool:
    """Make a root where there is none.

    Args:
        root: what to make.
        folder: of all roots; it is made.

    Returns:
        whether it was made; False where it was there.

    Raises:
        subprocess.CalledProcessError: mmdebstrap failed; its log lies beside the root.
    """
    path = root.path(folder)
    if path.exists():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"half-{path.name}")
    shutil.rmtree(half, ignore_errors=True)
    command = [str(_mmdebstrap(folder)), "--variant=apt", f"--include={','.join(root.packages)}"]
    command += [f"--customize-hook={root.hook}"] if root.hook else []
    with (folder / f"{root.name}.log").open("wb") as log:
        subprocess.run([*command, root.suite, str(half)], check=True, stdout=log, stderr=log, timeout=_MAKE_S)
    half.rename(path)
    return True


def _mmdebstrap(folder: Path) -> Path:
    """The program: this machine's, or unpacked out of its Debian package."""
    if on_path := shutil.which("mmdebstrap"):
        return Path(on_path)
    unpacked = folder / "mmdebstrap"
    if not unpacked.exists():
        environment = {**os.environ, "LC_ALL": "C"}
        command = ["apt-get", "download", "--quiet", "mmdebstrap"]
        subprocess.run(command, check=True, cwd=folder, env=environment, capture_output=True)
        (package,) = folder.glob("mmdebstrap_*.deb")
        subprocess.run(["dpkg-deb", "--extract", str(package), str(unpacked)], check=True)
        package.unlink()
    return unpacked / "usr" / "bin" / "mmdebstrap"
