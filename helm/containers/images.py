"""The five images, built by podman from their own Dockerfiles on bases that stand in for the wanted ones."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from helm.containers.engine import Engine, EngineError
from helm.containers.packages import PipSettings
from helm.containers.roots import PYTHON, Root
from services.local.settings import ROOT

_BUILD_S: Final = 3_000
_IMPORT_S: Final = 600
_PATH: Final = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"


def build_images(
    engine: Engine, images: Mapping[str, str], pip: PipSettings, *, bases: Sequence[Root], logs: Path
) -> list[dict[str, Any]]:
    """Build each image on the base that is there; layers of an earlier run are used again.

    Args:
        engine: podman.
        images: service to the full name of its image.
        pip: of this machine.
        bases: archives under /roots, and what they stand in for.
        logs: folder for what each build says.

    Returns:
        for each image its name, size and time.

    Raises:
        EngineError: a build failed; the message has the end of its log.
    """
    for base in bases:
        if not _is_there(engine, base.image):
            archive = f"/roots/{base.name}.tar"
            engine.podman("import", "--change", f"ENV PATH={_PATH}", archive, base.image, timeout_s=_IMPORT_S)
    return [_build(engine, service, image, pip, log=logs / f"build-{service}.log") for service, image in images.items()]


def _build(engine: Engine, service: str, image: str, pip: PipSettings, *, log: Path) -> dict[str, Any]:
    started_s = time.monotonic()
    arguments = {"PYTHON_IMAGE": PYTHON.image, "VARIANT": "cpu", "VERSION": image.rpartition(":")[2]}
    arguments["REVISION"] = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    command = ["build", "--network=host", "--pull=never", "--target=image", f"--tag={image}"]
    command += [f"--file=/src/services/{service}/Dockerfile"]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    engine.podman(*command, *pip.build_arguments(), "/src", timeout_s=_BUILD_S, place="building", log=log)
    (found,) = engine.inspect("image", "inspect", image)
    megabytes = round(found["Size"] / 1e6)
    return {"image": image, "size_mb": megabytes, "build_s": round(time.monotonic() - started_s, 1)}


def _is_there(engine: Engine, image: str) -> bool:
    try:
        engine.podman("image", "exists", image, timeout_s=60)
    except EngineError:
        return False
    return True
