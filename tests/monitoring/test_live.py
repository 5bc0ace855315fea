"""What a running system really exports: every series of its own that a query reads, and a turn moves the objectives."""

import asyncio
import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.monitoring.files import place_configuration, queries  # isort: skip  # before what needs the extra
from monitoring.objectives import OBJECTIVES, Objective
from monitoring.queries import external_series, own_series, selectors
from monitoring.targets import targets, write_targets
from services.local.record import read_record
from services.local.settings import LocalSettings
from services.local.system import LocalSystem
from services.local.triton import free_ports, is_installed
from stepaudio.conversation import Conversation
from tests.conftest import NANO, ROOT

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


@dataclass(frozen=True, slots=True)
class Running:
    """A whole system: its run folder, and all its series before and after a spoken turn, and after an interruption."""

    folder: Path
    before: Series
    after: Series
    interrupted: Series


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("monitored")
    settings = LocalSettings(run_folder=folder, checkpoints=NANO, engine="torch")
    system = LocalSystem(settings, notify=lambda _: None, rooms_only=False)
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
        after = scrape(folder)
        asyncio.run(interrupt(str(record.api_address)))
        yield Running(folder, before, after, scrape(folder))
    finally:
        system.stop()


async def interrupt(address: str) -> None:
    """Have a text said, and stop it at its first sound."""
    async with asyncio.timeout(60), Conversation(address) as conversation:
        await conversation.say("The lamp is in the kitchen. " * 20)
        async for event in conversation:
            if event.HasField("reply_audio"):
                await conversation.interrupt()
                break
        async for event in conversation:
            if event.HasField("turn_ended"):
                break


def total(series: Series, query: str) -> float:
    """Sum over the series that the selectors of a query match."""
    found = 0.0
    for name, labels in selectors(query):
        found += sum(value for (own, have), value in series.items() if own == name and set(labels.items()) <= have)
    return found


def test_every_own_series_that_a_query_reads_is_exported_before_anything_happened(running: Running) -> None:
    ours = set(own_series()) | external_series()["triton"]
    for query in queries():
        for name, labels in selectors(query.expr):
            if name in ours:
                asked = {item for item in labels.items() if item != ("namespace", "s")}
                assert any(own == name and asked <= have for own, have in running.before), f"{query}: {name}{labels}"


def test_the_catalogue_holds_nothing_that_is_not_exported(running: Running) -> None:
    assert set(own_series()) <= {name for name, _ in running.before}


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.key)
def test_a_spoken_turn_or_an_interruption_counts_for_every_objective(running: Running, objective: Objective) -> None:
    turns = objective.turns.replace("$window", "5m")
    is_of_interruptions = objective.alert == "StepaudioBargeInLate"
    first, then = (running.after, running.interrupted) if is_of_interruptions else (running.before, running.after)
    assert total(then, turns) == total(first, turns) + 1


def test_prometheus_finds_the_servers_and_answers_every_query(
    running: Running, prometheus: str, tmp_path: Path
) -> None:
    """The configuration, the rules and the file of targets of the compose file, in a Prometheus that runs."""
    configuration = place_configuration(tmp_path)
    configuration.write_text(
        re.sub(r"(scrape|evaluation)_interval: \w+", r"\1_interval: 1s", configuration.read_text())
    )
    write_targets(running.folder).rename(tmp_path / "etc/stepaudio/run/targets.json")
    ours = set(own_series()) | external_series()["triton"]
    with prometheus_at(prometheus, configuration, tmp_path / "data") as address:
        while len(answer(address, 'stepaudio:sessions:fill_ratio or up{job="stepaudio"} == 1')) < 6:
            time.sleep(0.2)  # the test's own timeout ends a wait without end
        assert {found["metric"]["component"] for found in answer(address, 'up{job="stepaudio"} == 1')} == {
            "orchestrator", "tokenizer", "lm", "tts", "vocoder"
        }  # fmt: skip
        for query in queries():
            answer(address, query.expr)
        for name in {name for query in queries() for name, _ in selectors(query.expr)} & ours:
            assert answer(address, f'{name}{{namespace="local"}}'), name
        assert answer(address, 'ALERTS{alertstate="firing"}') == []


@contextmanager
def prometheus_at(program: str, configuration: Path, data: Path) -> Iterator[str]:
    """Run Prometheus; give its address."""
    (port,) = free_ports(1)
    listen = f"127.0.0.1:{port}"
    arguments = [f"--config.file={configuration}", f"--storage.tsdb.path={data}", f"--web.listen-address={listen}"]
    with (data.parent / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([program, *arguments], stdout=log, stderr=log)
    try:
        while True:
            assert process.poll() is None, (data.parent / "prometheus.log").read_text()
            try:
                with urllib.request.urlopen(f"http://{listen}/-/ready", timeout=5):
                    break
            except OSError:
                time.sleep(0.1)
        yield listen
    finally:
        process.terminate()
        process.wait()


def answer(address: str, query: str) -> list[dict[str, Any]]:  # values are whatever JSON has
    """What Prometheus answers to a query; it must understand it."""
    asked = urllib.parse.urlencode({"query": query})
    with urllib.request.urlopen(f"http://{address}/api/v1/query?{asked}", timeout=10) as page:
        told = json.load(page)
    assert told["status"] == "success", query
    found = told["data"]["result"]
    return found if told["data"]["resultType"] == "vector" else []
