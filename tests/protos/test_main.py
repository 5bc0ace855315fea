"""The exit status of `python -m protos` tells make and CI what happened."""

import sys

import pytest

from protos import __main__ as command
from protos import toolchain

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("findings", "status"), [("", 0), ("a field was removed", 1)])
def test_findings_are_shown_and_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], findings: str, status: int
) -> None:
    asked: list[str] = []

    def compare(against: str) -> str:
        asked.append(against)
        return findings

    monkeypatch.setattr(toolchain, "breaking", compare)
    monkeypatch.setattr(sys, "argv", ["protos", "breaking", "--against", "v1"])
    assert command.main() == status
    assert (capsys.readouterr().err.strip(), asked) == (findings, ["v1"])


def test_a_tool_that_cannot_work_is_told_from_findings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> str:
        raise toolchain.ToolError("buf is not installed")

    monkeypatch.setattr(toolchain, "lint", refuse)
    monkeypatch.setattr(sys, "argv", ["protos", "lint"])
    assert command.main() == 2
    assert "buf is not installed" in capsys.readouterr().err
