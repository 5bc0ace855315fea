"""What the environment decides about the local system (STEPAUDIO_*)."""

from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.shared.errors import InvalidOptionError

ROOT: Final = Path(__file__).resolve().parents[2]


class LocalSettings(BaseSettings):
    """Settings of one local system.

    Attributes:
        checkpoints: folder that holds Step-Audio-Tokenizer, Step-Audio-Chat and Step-Audio-TTS-3B.
        model_repository: folder with one folder of Triton models for each pool.
        run_folder: where logs and the record of what runs are kept; one system a folder.
        threads: threads of every network.
        device, dtype: of every room, which read them themselves.
        engine: as the rooms know it (services/shared/serving/settings.py). `onnxruntime` is the faster one for
            tokenizer and vocoder on a CPU in float32; their graphs are exported when they are first needed. Elsewhere,
            and where that fails, torch computes.
        graph_cache: folder of exported graphs.
        ready_timeout_s: how long the slowest room may take to give its first answer.
    """

    model_config = SettingsConfigDict(env_prefix="STEPAUDIO_", frozen=True, extra="ignore")

    checkpoints: Path = ROOT / "model_repository" / "checkpoints" / "nano"
    model_repository: Path = ROOT / "model_repository"
    run_folder: Path = Path("out/local")
    threads: int = Field(default=1, ge=1, le=256)
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    engine: Literal["onnxruntime", "torch", "vllm", "onnxruntime-tensorrt"] = "onnxruntime"
    graph_cache: Path = Path("out/graphs")
    ready_timeout_s: float = Field(default=240.0, gt=0)

    @property
    def uses_graphs(self) -> bool:
        """Whether rooms run exported graphs."""
        return (self.engine, self.device, self.dtype) == ("onnxruntime", "cpu", "float32")


def read_local_settings() -> LocalSettings:
    """Read the environment.

    Raises:
        InvalidOptionError: a value is outside its range; the message names the setting.
    """
    try:
        return LocalSettings()
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidOptionError(f"STEPAUDIO_{str(first['loc'][0]).upper()}: {first['msg']}") from error
