"""The commands of the command line that go to a server, against the whole system."""

from pathlib import Path

import pytest
import soundfile as sf
from typer.testing import CliRunner

from benchmarks.live_system import LiveSystem
from stepaudio.cli import app
from tests.conftest import ROOT

pytestmark = pytest.mark.integration

QUESTION = ROOT / "benchmarks" / "data" / "nano_questions" / "wav" / "heldout_16.wav"


def stepaudio(system: LiveSystem, *arguments: object) -> str:
    result = CliRunner().invoke(app, [*(str(argument) for argument in arguments), "--server", system.address])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_command_that_takes_a_server_works_with_one(system: LiveSystem, tmp_path: Path) -> None:
    assert stepaudio(system, "transcribe", QUESTION).strip()
    reply, said, cloned = (tmp_path / name for name in ("reply.wav", "said.wav", "cloned.wav"))
    stepaudio(system, "ask", QUESTION, "-o", reply)
    stepaudio(system, "say", "The sheep says baa.", "-o", said)
    agreed = ("--speaker", "Somebody", "--consent-record", "kept by the test")
    stepaudio(system, "clone", QUESTION, "Hello.", "-o", cloned, "--clip-text", "What sound does it make?", *agreed)
    for file in (reply, said, cloned):
        assert sf.info(file).frames > 0, file.name
