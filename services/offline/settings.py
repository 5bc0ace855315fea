"""What the offline pipeline can be told by the environment (STEPAUDIO_*); the command line overrides it."""

from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.shared.errors import InvalidOptionError
from services.shared.prompt.chat import CHAT_SYSTEM_PROMPT

NANO_CHECKPOINTS: Final = Path(__file__).resolve().parents[2] / "model_repository" / "checkpoints" / "nano"


class OfflineSettings(BaseSettings):
    """Settings of one run; read once, in the command line.

    Attributes:
        checkpoints: folder that holds Step-Audio-Tokenizer, Step-Audio-Chat and Step-Audio-TTS-3B.
        threads: threads of every network; more than one helps only on an idle machine.
        dtype: of the language models and the flow; bfloat16, as released, is several times faster on processors with
            bfloat16 products, float32 is what is compared with the recorded numbers.
        seed: of all sampling and noise.
        voice: registry entry that speaks; the checkpoint's first one if left out.
        system: system prompt of the conversation; empty for none.
        temperature: of the chat model; 0 takes the likeliest words; the checkpoint's own if left out.
        speech_temperature: of the speech model; lower is plainer and slips less; the checkpoint's own if left out.
    """

    model_config = SettingsConfigDict(env_prefix="STEPAUDIO_", frozen=True, extra="forbid")

    checkpoints: Path = NANO_CHECKPOINTS
    threads: int = Field(default=1, ge=1, le=256)
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: int = Field(default=0, ge=0, lt=2**31)
    voice: str | None = None
    system: str = CHAT_SYSTEM_PROMPT
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    speech_temperature: float | None = Field(default=None, ge=0.0, le=2.0)


def read_settings(**overrides: Any) -> OfflineSettings:  # Any: pydantic checks the values
    """Read the environment; overrides that are None count as not given.

    Raises:
        InvalidOptionError: a value is outside its range; the message names the setting.
    """
    try:
        return OfflineSettings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"])
        raise InvalidOptionError(f"{name} (STEPAUDIO_{name.upper()}): {first['msg']}") from error
