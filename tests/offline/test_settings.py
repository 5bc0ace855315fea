"""Settings: from the environment, overridden by the caller, checked."""

from pathlib import Path

import pytest

from services.offline.settings import NANO_CHECKPOINTS, read_settings
from services.shared.errors import InvalidOptionError

pytestmark = pytest.mark.unit


def test_without_an_environment_the_nano_checkpoint_speaks() -> None:
    settings = read_settings()

    assert settings.checkpoints == NANO_CHECKPOINTS
    assert NANO_CHECKPOINTS.is_dir()
    assert (settings.threads, settings.seed, settings.voice, settings.temperature) == (1, 0, None, None)


def test_the_environment_is_read_and_the_caller_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPAUDIO_CHECKPOINTS", "/somewhere")
    monkeypatch.setenv("STEPAUDIO_SEED", "5")
    monkeypatch.setenv("STEPAUDIO_VOICE", "Tingting")

    settings = read_settings(seed=6, voice=None)

    assert (settings.checkpoints, settings.seed, settings.voice) == (Path("/somewhere"), 6, "Tingting")


@pytest.mark.parametrize(
    ("name", "value"), [("threads", "0"), ("seed", "-1"), ("temperature", "3"), ("seed", "x"), ("dtype", "int8")]
)
def test_a_value_outside_its_range_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"STEPAUDIO_{name.upper()}", value)

    with pytest.raises(InvalidOptionError, match=f"{name} .*STEPAUDIO_{name.upper()}"):
        read_settings()
