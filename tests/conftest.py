"""Rules of the suite: one marker a test, fixed threads, and where recorded data lies."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

KINDS = {"unit", "contract", "golden", "integration", "gpu", "cluster"}
ROOT = Path(__file__).resolve().parents[1]
DATA = Path(__file__).resolve().parent / "data"
SHARED_FIXTURES = Path(os.environ.get("STEPAUDIO_FIXTURES", ROOT.parent / "shared" / "fixtures"))
NANO = ROOT / "model_repository" / "checkpoints" / "nano"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test without exactly one kind; skip what this machine cannot run."""
    for item in items:
        kinds = KINDS & {mark.name for mark in item.iter_markers()}
        if len(kinds) != 1:
            raise pytest.UsageError(f"{item.nodeid} needs exactly one marker of {sorted(KINDS)}, has {sorted(kinds)}")
        if "gpu" in kinds and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_configure() -> None:
    """Run every test on one thread; no property fails because the machine is busy, and CI draws the same examples."""
    torch.set_num_threads(1)
    patient = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    settings.register_profile("patient", deadline=None, suppress_health_check=patient, derandomize="CI" in os.environ)
    settings.load_profile("patient")


def golden_file(name: str) -> Path:
    """Path of a recorded case: the small ones are committed, the large ones lie beside the project."""
    for folder in (DATA / "golden", SHARED_FIXTURES / "golden"):
        if (folder / name).exists():
            return folder / name
    pytest.skip(f"the large recorded case {name} is not beside this checkout")


def published_file(name: str) -> Path:
    """Path of a file of the public checkpoints, which may be used in place and is never committed."""
    path = SHARED_FIXTURES / "published" / name
    if not path.exists():
        pytest.skip(f"the public checkpoint's {name} is not beside this checkout")
    return path


def report(what: str, actual: object, expected: object, *, max_abs: float) -> None:
    """Print the largest and mean difference of two arrays of one shape, then hold the largest to its bound."""
    a = torch.as_tensor(actual).double()
    b = torch.as_tensor(expected).double()
    assert a.shape == b.shape, f"{what}: shape {tuple(a.shape)}, recorded {tuple(b.shape)}"
    difference = (a - b).abs()
    print(f"golden {what}: max {difference.max().item():.2e} mean {difference.mean().item():.2e} bound {max_abs:.0e}")
    assert difference.max().item() <= max_abs, what
