"""The nano rooms, loaded once for the whole folder: every command of these tests finds them loaded."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from services.offline import cli
from services.offline.pipeline import OfflinePipeline
from services.offline.settings import NANO_CHECKPOINTS
from stepaudio.cli import app

Command = Callable[..., Result]
_SHARED = ("tokenizer", "chat", "speech", "_speech_vocoder")


@pytest.fixture(scope="session")
def loaded_rooms() -> dict[str, object]:
    """Rooms of the nano checkpoint that some command has loaded already."""
    return {}


@pytest.fixture
def stepaudio(loaded_rooms: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the real command line; only loaded rooms are handed over from command to command, voices are not."""

    def open_pipeline(checkpoints: Path, *, notify: Callable[[str], None], dtype: torch.dtype) -> OfflinePipeline:
        pipeline = OfflinePipeline(checkpoints, notify=notify, dtype=dtype)
        if checkpoints == NANO_CHECKPOINTS and dtype == torch.float32:
            vars(pipeline.rooms).update(loaded_rooms)
            pipelines.append(pipeline)
        return pipeline

    pipelines: list[OfflinePipeline] = []
    monkeypatch.setattr(cli, "OfflinePipeline", open_pipeline)
    runner = CliRunner()

    def run(*arguments: object) -> Result:
        result = runner.invoke(app, [str(argument) for argument in arguments])
        for pipeline in pipelines:
            loaded_rooms.update({name: room for name, room in vars(pipeline.rooms).items() if name in _SHARED})
        return result

    return run
