"""What every benchmark shares."""

import json
from pathlib import Path

import pytest

from benchmarks.report import write_json

pytestmark = pytest.mark.unit


def test_figures_are_written_into_a_folder_that_is_made_and_nowhere_without_a_path(tmp_path: Path) -> None:
    path = tmp_path / "out" / "figures.json"
    write_json(None, {"a": 1})
    write_json(path, {"words": "（快速）"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"words": "（快速）"}
