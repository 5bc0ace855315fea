"""What a running system really exports: every series of its own that a query reads, and a turn moves the objectives."""

import asyncio
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from monitoring.objectives import OBJECTIVES, Objective
from monitoring.queries import external_series, own_series, selectors
from monitoring.targets import targets
from services.local.record import read_record
from services.local.settings import LocalSettings
from services.local.system import LocalSystem
from services.local.triton import is_installed
from tests.conftest import NANO, ROOT
from tests.monitoring.conftest import queries

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not is_installed(), reason="the Triton server is in the extra `local`"),
]

CLIENT = [sys.executable, "-c", "from stepaudio.cli import app; app()"]
QUESTION = ROOT / "benchmarks" / "data" / "nano_questions" / "wav" / "heldout_16.wav"
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(folder: Path) -> Series:
    """Every sample of every target, by name and labels, those of the target among them."""
    record = read_record(folder)
    assert record is not None
    found: Series = {}
    for group in targets(record):
        with urllib.request.urlopen(f"http://{group['targets'][0]}/metrics", timeout=10) as page:
            text = page.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                is_as_sent = re.search(rf"^{sample.name}[ {{]", text, re.MULTILINE)
                name = sample.name if is_as_sent else sample.name.removesuffix("_total")  # which the parser adds
                found[name, frozenset({**sample.labels, **group["labels"]}.items())] = sample.value
    return found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Series, Series]]:
    """All series of a whole system, before and after one spoken turn."""
    folder = tmp_path_factory.mktemp("monitored")
    system = LocalSystem(LocalSettings(run_folder=folder, checkpoints=NANO), notify=lambda _: None, rooms_only=False)
    try:
        asyncio.run(system.start())
        record = read_record(folder)
        assert record is not None
        before = scrape(folder)
        spoken = subprocess.run(
            [
                *CLIENT,
                "talk",
                QUESTION,
                "--fast",
                "--output",
                folder / "reply.wav",
                "--server",
                str(record.api_address),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert spoken.returncode == 0, spoken.stdout + spoken.stderr
        yield before, scrape(folder)
    finally:
        system.stop()


def total(series: Series, query: str) -> float:
    """Sum over the series that the selectors of a query match."""
    found = 0.0
    for name, labels in selectors(query):
        found += sum(value for (own, have), value in series.items() if own == name and set(labels.items()) <= have)
    return found


def test_every_own_series_that_a_query_reads_is_exported_before_anything_happened(
    running: tuple[Series, Series],
) -> None:
    before, _ = running
    ours = set(own_series()) | external_series()["triton"]
    for query in queries():
        for name, labels in selectors(query.expr):
            if name in ours:
                asked = {item for item in labels.items() if item != ("namespace", "s")}
                assert any(own == name and asked <= have for own, have in before), f"{query}: {name}{labels}"


def test_the_catalogue_holds_nothing_that_is_not_exported(running: tuple[Series, Series]) -> None:
    before, _ = running
    assert set(own_series()) <= {name for name, _ in before}


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.key)
def test_a_spoken_turn_counts_for_every_objective(running: tuple[Series, Series], objective: Objective) -> None:
    before, after = running
    turns = objective.turns.replace("$window", "5m")
    assert total(after, turns) == total(before, turns) + 1
