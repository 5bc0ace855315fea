"""Which server the command line speaks to and as whom, from STEPAUDIO_* and `--server`; secrets from there alone."""

from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.shared.errors import InvalidOptionError
from stepaudio.server import Server, Tls


class ServerSettings(BaseSettings):
    """Where the API is.

    Attributes:
        server: host:port, or grpcs://host:port for TLS; None is no server.
        token: bearer token.
        api_key: instead of a token.
        ca_file: PEM of the authorities to trust; the system's own if None. Setting it means TLS.
        certificate_file, key_file: PEM of the client's certificate and key, for mTLS.
    """

    model_config = SettingsConfigDict(env_prefix="STEPAUDIO_", frozen=True, hide_input_in_errors=True)

    server: str | None = None
    token: SecretStr | None = None
    api_key: SecretStr | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None


def read_server(address: str | None) -> Server | None:
    """Read the environment.

    Args:
        address: overrides the environment's; None is not given.

    Returns:
        The server; None where nobody names one.

    Raises:
        InvalidOptionError: the address is none, a file cannot be read, or half of a certificate is given.
    """
    settings = ServerSettings()
    address = address or settings.server
    if address is None:
        return None
    ca, certificate, key = (_read(path) for path in (settings.ca_file, settings.certificate_file, settings.key_file))
    is_plain = ca is None and certificate is None and key is None
    tls = None if is_plain else Tls(root_certificates=ca, certificate_chain=certificate, private_key=key)
    return Server.at(
        address,
        tls=tls,
        bearer_token=settings.token.get_secret_value() if settings.token is not None else None,
        api_key=settings.api_key.get_secret_value() if settings.api_key is not None else None,
    )


def _read(path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path is not None else None
    except OSError as error:
        raise InvalidOptionError(f"{path} cannot be read ({error.strerror})") from error
