"""Where the API is and who calls: address, TLS, credentials, and the channel made of them.

Plain addresses are plain text; a token sent that way can be read on the way, so use TLS beyond this machine.

    one address      host:port                  a balancer, or the only replica: each stream is a connection of its own
    all of them      dns:///name:port           a name that stands for every replica, as a headless Service's does
                     1.2.3.4:port,1.2.3.5:port

Where every replica is known, each stream goes to one that is there and says that it serves: what has died or drains is
passed over, and a resume never waits for it. Source: docs/api.md, "Connecting".
"""

import json
import re
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import urlsplit

import grpc

from services.shared.errors import InvalidOptionError

_SCHEMES: Final = {"grpc": False, "grpcs": True}
_EVERY: Final = ("ipv4:", "dns:///")
_MAX_MESSAGE_BYTES: Final = 4 * 2**20
_CHANNEL_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 20_000),  # no more often than the server allows
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),  # what may be tried again is decided here, by reason
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection, to a replica that may be another
)

_TO_WHO_SERVES: Final = json.dumps(
    {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
)


@dataclass(frozen=True, slots=True)
class Tls:
    """How the connection is secured.

    Attributes:
        root_certificates: PEM of the authorities to trust; the system's own if None.
        certificate_chain: PEM of the client's certificate, for mTLS; with `private_key` or not at all.
        private_key: PEM of its key.
        server_name: name the server's certificate has, if it is not the address's host.
    """

    root_certificates: bytes | None = None
    certificate_chain: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate_chain is None) != (self.private_key is None):
            raise InvalidOptionError("a client certificate and its private key are given together or not at all")


@dataclass(frozen=True, slots=True)
class Server:
    """One address of the API and the caller's credentials.

    Attributes:
        address: host:port, or as gRPC names the addresses of every replica.
        tls: None for plain text.
        bearer_token: goes into `authorization`.
        api_key: goes into `x-api-key`.
    """

    address: str
    tls: Tls | None = None
    bearer_token: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def at(
        cls, address: str, *, tls: Tls | None = None, bearer_token: str | None = None, api_key: str | None = None
    ) -> Self:
        """Read an address.

        Args:
            address: `host:port` or `grpc://host:port`, in plain text unless `tls` is given; `grpcs://host:port`; or
                every replica's: `dns:///name:port`, or numbers and ports with commas between them.
            tls: secures the connection; with `grpcs` and without it the system's authorities are trusted.
            bearer_token, api_key: who calls.

        Raises:
            InvalidOptionError: no such form, or no port.
        """
        if "," in address or address.startswith("dns:///"):
            return cls(_every(address), tls=tls, bearer_token=bearer_token, api_key=api_key)
        parts = urlsplit(address if "://" in address else f"grpc://{address}")
        try:
            is_complete = bool(parts.hostname) and parts.port is not None
        except ValueError:  # a port that is no number, or too large
            is_complete = False
        if parts.scheme not in _SCHEMES or not is_complete or parts.path not in ("", "/"):
            raise InvalidOptionError(f"{address!r} is no address: write host:port, or grpcs://host:port for TLS")
        if _SCHEMES[parts.scheme] and tls is None:
            tls = Tls()
        return cls(parts.netloc, tls=tls, bearer_token=bearer_token, api_key=api_key)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call says about its caller."""
        said = []
        if self.bearer_token is not None:
            said.append(("authorization", f"Bearer {self.bearer_token}"))
        if self.api_key is not None:
            said.append(("x-api-key", self.api_key))
        return tuple(said)

    def open_channel(self) -> grpc.aio.Channel:
        """Make a channel with a connection of its own; nothing is sent yet."""
        options: tuple[tuple[str, object], ...] = _CHANNEL_OPTIONS
        if self.address.startswith(_EVERY):
            options = (*options, ("grpc.service_config", _TO_WHO_SERVES))
        if self.tls is None:
            return grpc.aio.insecure_channel(self.address, options=options)
        tls = self.tls
        credentials = grpc.ssl_channel_credentials(tls.root_certificates, tls.private_key, tls.certificate_chain)
        if tls.server_name is not None:
            options = (*options, ("grpc.ssl_target_name_override", tls.server_name))
        return grpc.aio.secure_channel(self.address, credentials, options=options)


def _every(address: str) -> str:
    """The addresses of every replica as gRPC takes them."""
    names = [address.removeprefix("dns:///")] if "," not in address else address.split(",")
    for name in names:
        host, _, port = name.rpartition(":")
        is_number = re.fullmatch(r"\d+(\.\d+){3}", host) is not None
        if not port.isdecimal() or not host or (len(names) > 1 and not is_number):
            raise InvalidOptionError(
                f"{name!r} is no address of a replica: write dns:///name:port, or numbers and ports"
            )
    return address if len(names) == 1 else f"ipv4:{address}"
