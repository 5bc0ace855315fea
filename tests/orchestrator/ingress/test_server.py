"""The server itself: who gets in, over which transport, and how it goes down."""

import asyncio
import datetime
import hashlib
from collections.abc import AsyncIterable
from ipaddress import ip_address

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.gen.stepaudio.v1 import session_pb2, voice_pb2
from services.orchestrator.ingress.auth import LOCAL_TENANT, TenantLimits, Tenants
from services.orchestrator.ingress.server import SERVICE_NAMES, Tls, Transport
from tests.orchestrator.ingress.serving import END, Refusal, Served, converse, refusal_of, run, serving, start

pytestmark = pytest.mark.contract

TOKEN = "a token of the tests"
TENANTS = Tenants(
    required=True,
    token_digests={hashlib.sha256(TOKEN.encode()).hexdigest(): "acme", hashlib.sha256(b"other").hexdigest(): "other"},
    subjects={"caller.example": "acme"},
)
DAY = datetime.timedelta(days=1)


def test_a_token_or_a_key_says_who_calls() -> None:
    async def test() -> None:
        async with serving(tenants=TENANTS) as served:
            for metadata in (
                [("authorization", f"Bearer {TOKEN}")],
                [("authorization", f"bearer {TOKEN}")],
                [("x-api-key", TOKEN)],
            ):
                call = served.conversation.Converse(iter([start(), END]), metadata=metadata)
                assert [response.sequence async for response in call] == [1]
            assert [request.tenant for request in served.sessions.started] == ["acme"] * 3

    run(test)


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "Bearer wrong")],
        [("authorization", f"Basic {TOKEN}")],
        [("authorization", TOKEN)],
        [("authorization", "Bearer ")],
        [("x-api-key", "")],
        [("x-api-key", TOKEN), ("authorization", "Bearer other")],
    ],
    ids=str,
)
def test_without_a_valid_token_nothing_is_served(metadata: list[tuple[str, str]]) -> None:
    async def test() -> None:
        async with serving(tenants=TENANTS) as served:
            refusal = await refusal_of(served.voice.ListVoices(voice_pb2.ListVoicesRequest(), metadata=metadata))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
            assert TOKEN not in refusal.message
            assert refusal.retry_s is None

    run(test)


def test_without_authentication_everyone_is_one_tenant() -> None:
    async def test() -> None:
        async with serving() as served:
            await served.session.DeleteSession(session_pb2.DeleteSessionRequest(session_id="s"))
            assert served.sessions.deleted == [(LOCAL_TENANT, "s")]

    run(test)


def test_a_tenants_limits_are_its_own_and_a_call_that_ended_makes_room() -> None:
    async def test() -> None:
        limits = TenantLimits(max_conversations=1, max_calls=1)
        async with serving(tenants=TENANTS, limits=limits) as served:
            mine, others = (("x-api-key", TOKEN),), (("x-api-key", "other"),)
            first = served.conversation.Converse(metadata=mine)
            await first.write(start())
            await first.read()
            refusal = await refusal_of(_drained(served, mine))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED"), refusal
            assert refusal.details["limit"] == "max_conversations"
            assert refusal.retry_s == 0.5
            await _drained(served, others)
            await served.voice.ListVoices(voice_pb2.ListVoicesRequest(), metadata=mine)
            await first.write(END)
            assert await first.read() is grpc.aio.EOF
            await _drained(served, mine)

    run(test)


def test_health_and_reflection_answer_without_a_token() -> None:
    async def test() -> None:
        async with serving(tenants=TENANTS) as served:
            health = health_pb2_grpc.HealthStub(served.channel)
            for name in ("", *SERVICE_NAMES):
                answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            reflection = reflection_pb2_grpc.ServerReflectionStub(served.channel)
            asked = reflection_pb2.ServerReflectionRequest(list_services="")
            answers = [answer async for answer in reflection.ServerReflectionInfo(iter([asked]))]
            names = {service.name for service in answers[0].list_services_response.service}
            assert names >= {*SERVICE_NAMES, "grpc.health.v1.Health"}

    run(test)


def test_a_server_that_should_not_be_found_says_so_and_takes_calls_all_the_same() -> None:
    async def test() -> None:
        async with serving() as served:
            health = health_pb2_grpc.HealthStub(served.channel)

            async def statuses() -> set[int]:
                requests = [health_pb2.HealthCheckRequest(service=name) for name in ("", *SERVICE_NAMES)]
                return {(await health.Check(request)).status for request in requests}

            await served.server.show_serving(False)
            assert await statuses() == {health_pb2.HealthCheckResponse.NOT_SERVING}
            await served.session.DeleteSession(session_pb2.DeleteSessionRequest(session_id="s"))
            await served.server.show_serving(True)
            assert await statuses() == {health_pb2.HealthCheckResponse.SERVING}
            await served.server.drain()
            await served.server.show_serving(True)
            assert await statuses() == {health_pb2.HealthCheckResponse.NOT_SERVING}, "a drain is for good"

    run(test)


def test_draining_says_not_serving_first_and_refuses_new_calls_while_old_ones_go_on() -> None:
    async def test() -> None:
        async with serving() as served:
            health = health_pb2_grpc.HealthStub(served.channel)
            watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE_NAMES[0]))
            seen = aiter(watch)
            assert (await anext(seen)).status == health_pb2.HealthCheckResponse.SERVING
            call = served.conversation.Converse()
            await call.write(start())
            await call.read()
            await served.server.drain()
            assert (await anext(seen)).status == health_pb2.HealthCheckResponse.NOT_SERVING
            refusal = await refusal_of(converse(served, [start()]))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
            assert refusal.retry_s == 0.5
            await call.write(END)
            assert await call.read() is grpc.aio.EOF
            watch.cancel()

    run(test)


def test_stopping_cancels_what_outlasts_the_grace_and_lets_go_of_its_session() -> None:
    async def test() -> None:
        async with serving() as served:
            call = served.conversation.Converse()
            await call.write(start())
            await call.read()
            await served.server.stop(0.05)
            while served.sessions.attached_streams:
                await asyncio.sleep(0.005)

    run(test)


def test_an_address_that_is_taken_is_refused() -> None:
    async def test() -> None:
        async with serving() as served:
            with pytest.raises(Exception, match="cannot listen"):
                async with serving(transport=Transport(port=served.port)):
                    pass

    run(test)


def test_bytes_that_are_no_message_are_invalid_input() -> None:
    async def test() -> None:
        async with serving() as served:
            garbage = b"\xff\xff\xff"
            unary = served.channel.unary_unary("/stepaudio.v1.VoiceService/GetVoice", bytes, bytes)
            refusal = await refusal_of(unary(garbage))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
            stream = served.channel.stream_stream("/stepaudio.v1.ConversationService/Converse", bytes, bytes)
            call = stream(iter([start().SerializeToString(), garbage]))
            refusal = await refusal_of(_read_all(call))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")

    run(test)


def test_tls_encrypts_and_a_stranger_to_the_authority_is_not_trusted() -> None:
    async def test() -> None:
        authority = Authority()
        key, chain = authority.issue("localhost")
        transport = Transport(tls=Tls(chain, key))
        async with serving(transport=transport, credentials=grpc.ssl_channel_credentials(authority.pem)) as served:
            await served.voice.ListVoices(voice_pb2.ListVoicesRequest())
        stranger = grpc.ssl_channel_credentials(Authority().pem)
        async with serving(transport=transport, credentials=stranger) as served:
            refusal = await refusal_of(served.voice.ListVoices(voice_pb2.ListVoicesRequest()))
            assert refusal.code is grpc.StatusCode.UNAVAILABLE

    run(test)


def test_a_clients_certificate_says_who_calls() -> None:
    async def test() -> None:
        authority = Authority()
        key, chain = authority.issue("localhost")
        transport = Transport(tls=Tls(chain, key, client_authorities=authority.pem))

        async def listed(subject: str | None) -> Refusal | None:
            client_key, client_chain = authority.issue(subject) if subject else (None, None)
            credentials = grpc.ssl_channel_credentials(authority.pem, client_key, client_chain)
            async with serving(tenants=TENANTS, transport=transport, credentials=credentials) as served:
                call = served.session.DeleteSession(session_pb2.DeleteSessionRequest(session_id="s"))
                if subject == "caller.example":
                    await call
                    assert served.sessions.deleted == [("acme", "s")]
                    return None
                return await refusal_of(call)

        assert await listed("caller.example") is None
        unknown = await listed("nobody.example")
        assert unknown is not None
        assert unknown.reason == "UNAUTHENTICATED"
        without = await listed(None)
        assert without is not None
        assert without.code is grpc.StatusCode.UNAVAILABLE

    run(test)


class Authority:
    """Signs certificates for a day."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the tests")])
        extension = x509.BasicConstraints(ca=True, path_length=None)
        self._certificate = (
            self._builder(self._name, self._key)
            .add_extension(extension, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        """Its own certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> tuple[bytes, bytes]:
        """A key and its certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._builder(subject, key).add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return pem, certificate.public_bytes(serialization.Encoding.PEM)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
        )


async def _drained(served: Served, metadata: tuple[tuple[str, str], ...]) -> None:
    call = served.conversation.Converse(iter([start(), END]), metadata=metadata)
    async for _ in call:
        pass


async def _read_all(call: AsyncIterable[object]) -> None:
    async for _ in call:
        pass
