"""What a room is told by its environment (STEPAUDIO_*) and, below that, by the parameters of its config.pbtxt."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from services.shared.errors import InvalidOptionError


class RoomSettings(BaseSettings):
    """Settings of one model's process.

    Attributes:
        checkpoints: folder that holds Step-Audio-Tokenizer, Step-Audio-Chat and Step-Audio-TTS-3B.
        device: where the networks compute.
        dtype: of the language models and the flow; the release runs them in bfloat16.
        threads: threads of every network; more than one helps only on an idle machine.
        max_batch: replies that a language model generates at the same time.
        engine: what computes; a room that does not have the engine named uses torch. `vllm` is for the language models:
            the settings that follow, up to graphs, are of it alone, and `VllmOptions` says what they mean.
            `onnxruntime`, alone or with TensorRT where that can, and `tensorrt` alone are for the networks of the
            tokenizer and the vocoder.
        graph_cache: folder of exported graphs for onnxruntime, made by `python -m services.<room>.engine`, and of plans
            for tensorrt, made by `python -m services.<room>.engine.build`.
        plan_precision: of the plans' products.
        first_flow_steps: of the flow in a stream's first pass, which the caller waits for, and doubled from pass to
            pass up to ten, which the released system takes; fewer are sooner heard where the flow is slow.
        log_level: from which on events are logged.
        otlp_endpoint: URL of the collector's gRPC receiver of traces; empty for no traces.
    """

    model_config = SettingsConfigDict(env_prefix="STEPAUDIO_", frozen=True, extra="forbid")

    checkpoints: Path
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    threads: int = Field(default=1, ge=1, le=256)
    max_batch: int = Field(default=8, ge=1, le=1024)
    engine: Literal["torch", "vllm", "onnxruntime", "onnxruntime-tensorrt", "tensorrt"] = "torch"
    weights: Literal["stored", "fp8"] = "stored"
    context_tokens: int = Field(default=0, ge=0)
    tensor_parallel: int = Field(default=1, ge=1, le=64)
    pipeline_parallel: int = Field(default=1, ge=1, le=64)
    memory_fraction: float = Field(default=0.9, gt=0, le=1)
    kv_cache_mib: int = Field(default=0, ge=0)
    prefill_tokens: int = Field(default=2048, ge=16, le=65_536)
    model_runner: Literal[1, 2] = 1
    graphs: bool = True
    graph_cache: Path = Path("out/graphs")
    plan_precision: Literal["float32", "float16", "bfloat16", "float8"] = "float16"
    first_flow_steps: int = Field(default=10, ge=1, le=10)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    otlp_endpoint: str = Field(default="", pattern=r"^(https?://.+)?$")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over config.pbtxt: a deployment mounts its checkpoints where it wants."""
        return env_settings, init_settings


def read_room_settings(parameters: Mapping[str, str], model_folder: Path) -> RoomSettings:
    """Read the settings of the model in `model_folder`; a relative path of its config.pbtxt starts there.

    Raises:
        InvalidOptionError: a value is absent or outside its range; the message names the setting.
    """
    values: dict[str, str | Path] = dict(parameters)
    if "checkpoints" in values:
        values["checkpoints"] = (model_folder / values["checkpoints"]).resolve()
    try:
        return RoomSettings(**values)  # type: ignore[arg-type]  # pydantic reads each field's type from its text
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"])
        raise InvalidOptionError(f"{name} (STEPAUDIO_{name.upper()}): {first['msg']}") from error
