"""The grpc.aio server of a replica: the four services, health v1 and reflection, on one port.

    start ─► SERVING ─► drain: NOT_SERVING, no new calls ─► (conversations are told to go) ─► stop: the port closes
               │ ▲
               ▼ │ show_serving: what every call needs is away or back; calls are taken all the same
            NOT_SERVING

It decides how the transport behaves: TLS, sizes, keepalive. What a call may do is decided in calls.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from protos.gen.stepaudio.v1 import (
    conversation_pb2,
    conversation_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
    speech_pb2,
    speech_pb2_grpc,
    voice_pb2,
    voice_pb2_grpc,
)
from services.orchestrator.ingress.calls import CallInterceptor
from services.shared.errors import RoomUnavailableError

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""gRPC's own limit, which clients have too; a larger message is refused by the transport with RESOURCE_EXHAUSTED."""

SERVICE_NAMES: Final = tuple(
    file.DESCRIPTOR.services_by_name[name].full_name
    for file, name in (
        (conversation_pb2, "ConversationService"),
        (speech_pb2, "SpeechService"),
        (voice_pb2, "VoiceService"),
        (session_pb2, "SessionService"),
    )
)


@dataclass(frozen=True, slots=True)
class Tls:
    """What the server proves itself with, in PEM.

    Attributes:
        certificate_chain, private_key: its own.
        client_authorities: of the certificates that clients have to show (mTLS); None asks them for none.
    """

    certificate_chain: bytes
    private_key: bytes
    client_authorities: bytes | None = None

    @classmethod
    def read(cls, certificate_chain: Path, private_key: Path, client_authorities: Path | None = None) -> "Tls":
        """Read the files."""
        authorities = None if client_authorities is None else client_authorities.read_bytes()
        return cls(certificate_chain.read_bytes(), private_key.read_bytes(), authorities)

    def credentials(self) -> grpc.ServerCredentials:
        """As gRPC takes them."""
        return grpc.ssl_server_credentials(
            [(self.private_key, self.certificate_chain)],
            root_certificates=self.client_authorities,
            require_client_auth=self.client_authorities is not None,
        )


@dataclass(frozen=True, slots=True)
class Transport:
    """How the server listens.

    Attributes:
        host, port: where; port 0 takes a free one.
        tls: None speaks plain text, for loopback and meshes.
        max_streams: calls at once on one connection.
        keepalive_s: after how long without a sign of life a connection is probed.
        keepalive_timeout_s: how long the answer may take before the connection counts as lost.
        min_ping_s: clients that ping more often are sent away.
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls: Tls | None = None
    max_streams: int = 1000
    keepalive_s: float = 20.0
    keepalive_timeout_s: float = 10.0
    min_ping_s: float = 15.0

    def options(self) -> Sequence[tuple[str, int]]:
        """As gRPC names them."""
        return (
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_concurrent_streams", self.max_streams),
            ("grpc.keepalive_time_ms", round(self.keepalive_s * 1000)),
            ("grpc.keepalive_timeout_ms", round(self.keepalive_timeout_s * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", round(self.min_ping_s * 1000)),
            ("grpc.so_reuseport", 0),
        )


@dataclass(frozen=True, slots=True)
class Services:
    """What is served."""

    conversation: conversation_pb2_grpc.ConversationServiceServicer
    speech: speech_pb2_grpc.SpeechServiceServicer
    voice: voice_pb2_grpc.VoiceServiceServicer
    session: session_pb2_grpc.SessionServiceServicer


class ApiServer:
    """One server; it starts once and stops once.

    Args:
        services: what is served.
        calls: what stands before them.
        transport: how it listens.
    """

    def __init__(self, services: Services, calls: CallInterceptor, transport: Transport) -> None:
        self._calls = calls
        self._transport = transport
        self._health = HealthServicer()
        self._server = grpc.aio.server(interceptors=[calls], options=transport.options())
        conversation_pb2_grpc.add_ConversationServiceServicer_to_server(services.conversation, self._server)
        speech_pb2_grpc.add_SpeechServiceServicer_to_server(services.speech, self._server)
        voice_pb2_grpc.add_VoiceServiceServicer_to_server(services.voice, self._server)
        session_pb2_grpc.add_SessionServiceServicer_to_server(services.session, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*SERVICE_NAMES, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self, *, is_serving: bool = True) -> int:
        """Listen, and report SERVING, or that it is not yet, for the whole and each service.

        Returns:
            The port.

        Raises:
            RoomUnavailableError: the address cannot be had.
        """
        address = f"{self._transport.host}:{self._transport.port}"
        tls = self._transport.tls
        try:
            if tls is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, tls.credentials())
        except RuntimeError as error:
            raise RoomUnavailableError(f"the server cannot listen at {address}") from error
        await self.show_serving(is_serving)
        await self._server.start()
        return port

    async def show_serving(self, is_serving: bool) -> None:
        """Report SERVING or NOT_SERVING to who looks for a server; once it drains this has no effect."""
        answer = health_pb2.HealthCheckResponse
        for name in ("", *SERVICE_NAMES):
            await self._health.set(name, answer.SERVING if is_serving else answer.NOT_SERVING)

    async def drain(self) -> None:
        """Report NOT_SERVING for good, and refuse new calls with DRAINING; those under way go on."""
        await self._health.enter_graceful_shutdown()
        self._calls.begin_drain()

    async def stop(self, grace_s: float) -> None:
        """Drain, close the port, and cancel what is still under way after the grace."""
        await self.drain()
        await self._server.stop(grace_s)
