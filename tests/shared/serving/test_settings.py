"""What a room is told by its environment and its config.pbtxt."""

from pathlib import Path

import pytest

from services.shared.errors import InvalidOptionError
from services.shared.serving.settings import read_room_settings

pytestmark = pytest.mark.unit


def test_a_path_of_the_config_starts_at_the_models_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEPAUDIO_CHECKPOINTS", raising=False)
    settings = read_room_settings({"checkpoints": "../../checkpoints/nano"}, Path("/m/lm/step1_chat"))
    assert settings.checkpoints == Path("/m/checkpoints/nano")


def test_the_environment_wins_over_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPAUDIO_CHECKPOINTS", "/mounted")
    assert read_room_settings({"checkpoints": "../x"}, Path("/m")).checkpoints == Path("/mounted")


@pytest.mark.parametrize(
    ("parameters", "said"), [({}, "CHECKPOINTS"), ({"checkpoints": "x", "threads": "0"}, "THREADS")]
)
def test_a_missing_or_wrong_setting_is_named(
    parameters: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STEPAUDIO_CHECKPOINTS", raising=False)
    with pytest.raises(InvalidOptionError, match=f"STEPAUDIO_{said}"):
        read_room_settings(parameters, Path("/m"))


def test_the_engine_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_room_settings({"checkpoints": "x"}, Path("/m")).engine == "torch"
    monkeypatch.setenv("STEPAUDIO_ENGINE", "vllm")
    monkeypatch.setenv("STEPAUDIO_TENSOR_PARALLEL", "4")
    settings = read_room_settings({"checkpoints": "x"}, Path("/m"))
    assert (settings.engine, settings.tensor_parallel) == ("vllm", 4)
    monkeypatch.setenv("STEPAUDIO_ENGINE", "other")
    with pytest.raises(InvalidOptionError, match="STEPAUDIO_ENGINE"):
        read_room_settings({"checkpoints": "x"}, Path("/m"))
