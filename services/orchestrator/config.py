"""What the environment decides about a replica of the orchestrator (STEPAUDIO_*). Read in composition roots only."""

import hmac
import json
from pathlib import Path
from typing import Final, Literal, NamedTuple

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.orchestrator.conversation.options import ToolSpeech
from services.orchestrator.ingress.auth import Tenants
from services.shared.errors import InvalidOptionError
from services.shared.prompt.chat import CallForm

PREFIX: Final = "STEPAUDIO_"
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
SMART_TURN_SHA256: Final = "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f"
"""Of smart-turn-v3.2-cpu.onnx."""
_SHA256_HEX: Final = 64
_PORTS: Final = 2**16


class Listen(NamedTuple):
    """Where a server listens; port 0 takes a free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in _LOOPBACK


class OrchestratorSettings(BaseSettings):
    """Settings of one replica; the variable of `redis_url` is STEPAUDIO_REDIS_URL, and so on.

    Attributes:
        tokenizer_address, lm_address, tts_address, vocoder_address: host:port of each pool's Triton service.
        redis_url: of the store, as adapters/redis/connect.py reads it.
        checkpoints: folder that holds Step-Audio-Chat and Step-Audio-TTS-3B; no weights are read.
        listen: host:port of the public API.
        metrics_listen: host:port of /metrics.
        tls_certificate, tls_key: PEM files of the server; both or none.
        tls_client_authorities: PEM file of the authorities of clients' certificates, which are then required.
        credentials: JSON file {"tokens": {SHA-256 of a token in hex: tenant}, "subjects": {name in a client's
            certificate: tenant}}. Without it everybody is let in, and then only loopback may be listened on.
        page_key: signs page tokens, the same on replicas beside each other. Empty makes one of what they share
            anyway: the store's URL and the credentials.
        max_sessions: of this replica, those that wait to be resumed included.
        max_tenant_sessions: of one tenant on this replica.
        max_tenant_calls: other calls of one tenant at once.
        max_tenant_speculations: replies that one tenant may have prepared at pauses at once, on this replica; 0
            prepares none.
        tenant_wasted_tokens: tokens a minute that one tenant may have generated for prepared replies that are thrown
            away, on this replica.
        max_degradation: how much quality may be given up while the rooms fall behind: 0 nothing, 1 a smaller first
            chunk, 2 fewer flow steps as well, 3 prepared replies as well.
        max_playout_lead_ms: reply audio that is sent ahead of what was heard.
        resume_window_s: how long a session without a client waits for one.
        max_idle_s: how long a client may send nothing.
        max_session_s: longest session.
        drain_grace_s: how long callers have to go to another replica before this one closes.
        voice: that speaks where the caller chooses none; empty is the checkpoint's first.
        system_prompt: where the caller gives none; empty is the model's own.
        tools: JSON file of the HTTP endpoints and MCP servers that may run functions, as adapters/tools/registry.py
            reads it. Without it only callers run functions.
        tool_call_form: how the chat model is told of functions and calls them: "json", or "pairs" for a model that was
            trained for its functions, as the nano checkpoint.
        tool_notice: said while a function runs and nothing else is said; empty waits in silence.
        tool_apology: said where a function's call is over and the model says nothing to it.
        turn_model: file of smart-turn-v3.2-cpu.onnx (docs/turn-taking.md says how to get it); without it the mode
            TURN_MODEL is not offered.
        turn_model_sha256: that this file has; another one's is given with another file.
        log_level: from which on events are logged.
        log_file: where they are written; standard error if left out.
        record_folder: where each session's events and decisions are recorded, to be played again by
            `python -m services.orchestrator.replay`; nothing is recorded without it.
        record_text: recordings hold all words; without it only their shape. Audio is never recorded.
        record_session_mib, record_total_mib: largest recording, and all of the folder.
        otlp_endpoint: URL of the collector's gRPC receiver of traces; empty for no traces.
        min_replicas, max_replicas: bounds of autoscaling under Ray Serve.
        target_sessions: that a replica should have; more replicas are started above.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True
    )  # a fault of one value would quote the others, secrets among them

    tokenizer_address: str = Field(min_length=3)
    lm_address: str = Field(min_length=3)
    tts_address: str = Field(min_length=3)
    vocoder_address: str = Field(min_length=3)
    redis_url: SecretStr
    checkpoints: Path
    listen: str = "127.0.0.1:8443"
    metrics_listen: str = "127.0.0.1:9464"
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_authorities: Path | None = None
    credentials: Path | None = None
    page_key: SecretStr = SecretStr("")
    max_sessions: int = Field(default=200, ge=1, le=10_000)
    max_tenant_sessions: int = Field(default=50, ge=1, le=10_000)
    max_tenant_calls: int = Field(default=100, ge=1, le=10_000)
    max_tenant_speculations: int = Field(default=16, ge=0, le=10_000)
    tenant_wasted_tokens: int = Field(default=60_000, ge=0, le=1_000_000_000)
    max_degradation: int = Field(default=3, ge=0, le=3)
    max_playout_lead_ms: int = Field(default=3_000, ge=200, le=60_000)
    resume_window_s: float = Field(default=120.0, ge=1, le=3_600)
    max_idle_s: float = Field(default=60.0, ge=1, le=3_600)
    max_session_s: float = Field(default=3_600.0, ge=10, le=86_400)
    drain_grace_s: float = Field(default=60.0, ge=0, le=3_600)
    voice: str = ""
    system_prompt: str = ""
    tools: Path | None = None
    tool_call_form: CallForm = CallForm.JSON
    tool_notice: str = Field(default=ToolSpeech().notice, max_length=256)
    tool_apology: str = Field(default=ToolSpeech().apology, max_length=256)
    turn_model: Path | None = None
    turn_model_sha256: str = Field(default=SMART_TURN_SHA256, pattern=r"^[0-9a-f]{64}$")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_file: Path | None = None
    record_folder: Path | None = None
    record_text: bool = False
    record_session_mib: int = Field(default=16, ge=1, le=1_024)
    record_total_mib: int = Field(default=1_024, ge=1, le=1_048_576)
    otlp_endpoint: str = Field(default="", pattern=r"^(https?://.+)?$")
    min_replicas: int = Field(default=1, ge=1, le=1_000)
    max_replicas: int = Field(default=1, ge=1, le=1_000)
    target_sessions: int = Field(default=100, ge=1, le=10_000)

    @property
    def api(self) -> Listen:
        """Where the public API listens."""
        return _listen("listen", self.listen)

    @property
    def metrics(self) -> Listen:
        """Where /metrics listens."""
        return _listen("metrics_listen", self.metrics_listen)


def read_settings() -> OrchestratorSettings:
    """Read the environment.

    Raises:
        InvalidOptionError: a value is absent, outside its range, or does not fit the others; the message names the
            variable.
    """
    try:
        settings = OrchestratorSettings()  # type: ignore[call-arg]  # the environment fills in what has no default
    except ValidationError as error:
        first = error.errors()[0]
        raise _invalid(str(first["loc"][0]), first["msg"]) from error
    _check(settings)
    return settings


def read_tenants(path: Path | None) -> Tenants:
    """Read the file of credentials; without one everybody is let in.

    Raises:
        InvalidOptionError: the file cannot be read, or is not as `OrchestratorSettings.credentials` says.
    """
    if path is None:
        return Tenants()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _invalid("credentials", f"{path} cannot be read: {type(error).__name__}") from error
    if not isinstance(values, dict) or values.keys() - {"tokens", "subjects"}:
        raise _invalid("credentials", f'{path} must be an object with "tokens" and "subjects" only')
    tokens, subjects = (_names(path, values.get(part, {})) for part in ("tokens", "subjects"))
    for digest in tokens:
        if len(digest) != _SHA256_HEX or set(digest) - set("0123456789abcdef"):
            raise _invalid("credentials", f"{path} has a token that is no SHA-256 in lower-case hex")
    return Tenants(required=True, token_digests=tokens, subjects=subjects)


def page_key(settings: OrchestratorSettings) -> bytes:
    """What signs page tokens: the setting, or made of secrets that every replica of these settings has.

    Raises:
        InvalidOptionError: the file of credentials cannot be read.
    """
    given = settings.page_key.get_secret_value()
    if given:
        return given.encode()
    try:
        credentials = b"" if settings.credentials is None else settings.credentials.read_bytes()
    except OSError as error:
        raise _invalid("credentials", f"{settings.credentials} cannot be read: {type(error).__name__}") from error
    return hmac.digest(b"page tokens", settings.redis_url.get_secret_value().encode() + credentials, "sha256")


def _names(path: Path, table: object) -> dict[str, str]:
    if not isinstance(table, dict) or not all(isinstance(name, str) and name for name in table.values()):
        raise _invalid("credentials", f"{path} must map each token and subject to the name of a tenant")
    return table


def _check(settings: OrchestratorSettings) -> None:
    """Refuse values that do not fit each other."""
    api = settings.api
    _ = settings.metrics  # refuses what is no address
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise _invalid("tls_key", "certificate and key are given both, or neither")
    if settings.tls_client_authorities is not None and settings.tls_key is None:
        raise _invalid("tls_client_authorities", "clients' certificates need STEPAUDIO_TLS_CERTIFICATE and _KEY")
    for name in ("tls_certificate", "tls_key", "tls_client_authorities", "credentials", "tools", "turn_model"):
        path = getattr(settings, name)
        if path is not None and not path.is_file():
            raise _invalid(name, f"{path} is not a file")
    if not settings.checkpoints.is_dir():
        raise _invalid("checkpoints", f"{settings.checkpoints} is not a folder")
    if settings.credentials is None and not api.is_loopback:
        raise _invalid("credentials", f"{api.host} is open to others, and without credentials everybody is let in")
    if settings.max_replicas < settings.min_replicas:
        raise _invalid("max_replicas", f"must be at least STEPAUDIO_MIN_REPLICAS, {settings.min_replicas}")


def _listen(name: str, value: str) -> Listen:
    host, colon, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) >= _PORTS:
        raise _invalid(name, f"{value!r} is not host:port")
    return Listen(host, int(port))


def _invalid(name: str, reason: str) -> InvalidOptionError:
    variable = f"{PREFIX}{name.upper()}"
    return InvalidOptionError(f"{variable}: {reason}", field=variable)
