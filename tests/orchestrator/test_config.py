"""Settings are read from the environment, and what cannot be is refused by the name of its variable."""

import hashlib
import json
import traceback
from pathlib import Path

import pytest

from services.orchestrator.config import Listen, OrchestratorSettings, page_key, read_settings, read_tenants
from services.shared.errors import InvalidOptionError

pytestmark = pytest.mark.unit

Environment = pytest.MonkeyPatch


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for pool in ("TOKENIZER", "LM", "TTS", "VOCODER"):
        monkeypatch.setenv(f"STEPAUDIO_{pool}_ADDRESS", f"{pool.lower()}:8001")
    monkeypatch.setenv("STEPAUDIO_REDIS_URL", "redis://:secret@store:6379")
    monkeypatch.setenv("STEPAUDIO_CHECKPOINTS", str(tmp_path))
    return monkeypatch


def test_addresses_and_defaults_are_read(environment: Environment) -> None:
    environment.setenv("STEPAUDIO_LISTEN", "[::1]:0")
    environment.setenv("STEPAUDIO_MAX_SESSIONS", "7")
    settings = read_settings()
    assert settings.lm_address == "lm:8001"
    assert settings.api == Listen("::1", 0)
    assert settings.metrics == Listen("127.0.0.1", 9464)
    assert settings.max_sessions == 7
    assert settings.redis_url.get_secret_value() == "redis://:secret@store:6379"


def test_the_stores_password_is_not_shown(environment: Environment) -> None:
    assert "secret" not in repr(read_settings())


def test_what_is_refused_quotes_no_secret_of_the_others(environment: Environment) -> None:
    environment.setenv("STEPAUDIO_PAGE_KEY", "hunter2")
    environment.delenv("STEPAUDIO_LM_ADDRESS")
    with pytest.raises(InvalidOptionError) as caught:
        read_settings()
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STEPAUDIO_LISTEN", "8443"),
        ("STEPAUDIO_LISTEN", "host:99999"),
        ("STEPAUDIO_METRICS_LISTEN", ":80"),
        ("STEPAUDIO_MAX_SESSIONS", "0"),
        ("STEPAUDIO_MAX_SESSIONS", "many"),
        ("STEPAUDIO_DRAIN_GRACE_S", "-1"),
        ("STEPAUDIO_LOG_LEVEL", "LOUD"),
        ("STEPAUDIO_OTLP_ENDPOINT", "collector:4317"),
        ("STEPAUDIO_CHECKPOINTS", "/nowhere"),
        ("STEPAUDIO_CREDENTIALS", "/nowhere"),
        ("STEPAUDIO_TLS_CLIENT_AUTHORITIES", "/nowhere"),
        ("STEPAUDIO_MAX_REPLICAS", "0"),
        ("STEPAUDIO_TURN_MODEL", "/nowhere"),
        ("STEPAUDIO_TURN_MODEL_SHA256", "2BB0"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_name(
    environment: Environment, variable: str, value: str
) -> None:
    environment.setenv(variable, value)
    with pytest.raises(InvalidOptionError, match=f"^{variable}: ") as caught:
        read_settings()
    assert caught.value.details == {"field": variable}


@pytest.mark.parametrize("name", [name for name, field in OrchestratorSettings.model_fields.items()
                                  if field.is_required()])  # fmt: skip
def test_what_has_no_default_is_asked_for(environment: Environment, name: str) -> None:
    environment.delenv(f"STEPAUDIO_{name.upper()}")
    with pytest.raises(InvalidOptionError, match=f"^STEPAUDIO_{name.upper()}: "):
        read_settings()


def test_nobody_is_let_in_from_outside_without_credentials(environment: Environment, tmp_path: Path) -> None:
    environment.setenv("STEPAUDIO_LISTEN", "0.0.0.0:8443")
    with pytest.raises(InvalidOptionError, match=r"STEPAUDIO_CREDENTIALS: 0\.0\.0\.0 is open to others"):
        read_settings()
    credentials = tmp_path / "credentials.json"
    credentials.write_text("{}")
    environment.setenv("STEPAUDIO_CREDENTIALS", str(credentials))
    assert not read_settings().api.is_loopback


def test_replicas_of_the_same_settings_sign_page_tokens_alike(environment: Environment, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials.json"
    credentials.write_text("{}")
    environment.setenv("STEPAUDIO_CREDENTIALS", str(credentials))
    environment.setenv("STEPAUDIO_MAX_REPLICAS", "10")
    key = page_key(read_settings())
    assert page_key(read_settings()) == key
    credentials.write_text('{"tokens": {}}')
    other = page_key(read_settings())
    environment.setenv("STEPAUDIO_REDIS_URL", "redis://:another@store:6379")
    assert len({key, other, page_key(read_settings())}) == 3
    environment.setenv("STEPAUDIO_PAGE_KEY", "given")
    assert page_key(read_settings()) == b"given"


def test_a_certificate_needs_its_key(environment: Environment, tmp_path: Path) -> None:
    certificate = tmp_path / "server.pem"
    certificate.write_text("")
    environment.setenv("STEPAUDIO_TLS_CERTIFICATE", str(certificate))
    with pytest.raises(InvalidOptionError, match="STEPAUDIO_TLS_KEY: certificate and key"):
        read_settings()


def test_credentials_name_the_tenant_of_each_digest_and_subject(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"token").hexdigest()
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({"tokens": {digest: "acme"}, "subjects": {"client.acme": "acme"}}))
    tenants = read_tenants(path)
    assert tenants.identify([("authorization", "Bearer token")], {}).tenant == "acme"
    assert not read_tenants(None).required


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"token": {}}', '{"tokens": []}', '{"tokens": {"plain": "acme"}}', '{"subjects": {"x": 1}}'],
)
def test_credentials_that_cannot_be_used_are_refused_without_being_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(text)
    with pytest.raises(InvalidOptionError, match=r"^STEPAUDIO_CREDENTIALS: ") as caught:
        read_tenants(path)
    assert "plain" not in str(caught.value)
