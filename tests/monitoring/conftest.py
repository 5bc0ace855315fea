"""Where promtool and Prometheus are."""

import os
import shutil

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="session")
def promtool() -> str:
    return _program("promtool")


@pytest.fixture(scope="session")
def prometheus() -> str:
    return _program("prometheus")


def _program(name: str) -> str:
    """From the variable of its name, the PATH or what `make promtool` unpacked."""
    fetched = ROOT / "out" / "tools" / "usr" / "bin" / name
    found = os.environ.get(name.upper()) or shutil.which(name) or shutil.which(fetched)
    if not found:
        pytest.skip(f"{name} is not here; `make promtool` fetches it")
    return found
