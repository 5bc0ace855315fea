"""Speaks to a Triton server, or several of one kind, with the protocol's own messages on grpc.aio.

    infer    one request, one response            stream   one request, responses as they come
    Cancelling the task that awaits, or closing the stream, cancels the work in the server.

Errors of the room come back as the typed errors that the room raised. It knows no model: the spec says what passes.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Final, Self

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as pb_grpc

from services.shared.errors import RoomUnavailableError, StepAudioError
from services.shared.triton.context import RequestContext
from services.shared.triton.faults import read_fault
from services.shared.triton.tensors import Array, ModelSpec
from services.shared.triton.wire import SequencePlace, read_response, write_request

_MAX_MESSAGE_BYTES: Final = 64 * 2**20
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
    # A server that was restarted is found again within a second; gRPC's own default grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # What a host that died without a word leaves unacknowledged is given up after so long, and its connection with it;
    # the kernel alone would wait a quarter of an hour. Pings of an idle connection are as rare as Triton allows.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Names are looked up anew, at most so often, whenever a connection is lost.
    ("grpc.dns_min_time_between_resolutions_ms", 2000),
    ("grpc.lb_policy_name", "round_robin"),
)
_TRUE_STATUS: Final = (("triton_grpc_error", "true"),)
"""Asks Triton to end a failed stream with the error's status; else it hides the code in a message that says OK."""
_NO_CONTEXT: Final = RequestContext()

Tensors = Mapping[str, object]


class TritonClient:
    """One server, or all servers behind one name; use it as an async context manager, or close it."""

    def __init__(self, address: str) -> None:
        """Make a client; nothing is sent yet.

        Args:
            address: host:port of the gRPC service. Where the name has several addresses, each request goes to the
                next of them; requests of one sequence need the address of one server.
        """
        self.address = address
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._stub = pb_grpc.GRPCInferenceServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; what is under way is cancelled."""
        await self._channel.close()

    async def infer(
        self,
        spec: ModelSpec,
        tensors: Tensors,
        *,
        timeout_s: float,
        context: RequestContext = _NO_CONTEXT,
        sequence: SequencePlace | None = None,
    ) -> dict[str, Array]:
        """Ask once.

        Args:
            spec: the model's door.
            tensors: its inputs by name; optional ones may be left out.
            timeout_s: after which the server is told to give up.
            context: whose work it is.
            sequence: which request of which sequence, for models with sequences.

        Returns:
            The outputs by name; read-only.

        Raises:
            InvalidInputError: a tensor does not fit the spec.
            StepAudioError: what the room raised.
            RoomUnavailableError, DeadlineExceededError: the server is not there, or too late.
        """
        request = write_request(spec, tensors, context=context, sequence=sequence)
        try:
            response = await self._stub.ModelInfer(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise _fault(spec.name, error) from error
        return read_response(spec, response)

    async def stream(
        self, spec: ModelSpec, tensors: Tensors, *, timeout_s: float, context: RequestContext = _NO_CONTEXT
    ) -> AsyncGenerator[dict[str, Array], None]:
        """Ask a decoupled model; closing the generator cancels the work.

        Args:
            spec: the model's door.
            tensors: its inputs by name.
            timeout_s: for the whole stream.
            context: whose work it is.

        Yields:
            The outputs of each response.

        Raises:
            As `infer`.
        """
        call = self._stub.ModelStreamInfer(timeout=timeout_s, metadata=_TRUE_STATUS)
        try:
            await call.write(write_request(spec, tensors, context=context))
            await call.done_writing()
            async for message in call:
                if message.error_message:
                    raise read_fault(spec.name, "INTERNAL", message.error_message)
                yield read_response(spec, message.infer_response)
        except asyncio.InvalidStateError as error:  # the call ended before the request was written
            raise await _ended(spec.name, call) from error
        except grpc.aio.AioRpcError as error:
            raise _fault(spec.name, error) from error
        finally:
            call.cancel()

    async def metadata(self, spec: ModelSpec, *, timeout_s: float) -> pb.ModelMetadataResponse:
        """What the server says the model takes and gives. Raises as `infer`."""
        try:
            return await self._stub.ModelMetadata(pb.ModelMetadataRequest(name=spec.name), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise _fault(spec.name, error) from error


def _fault(model: str, error: grpc.aio.AioRpcError) -> StepAudioError:
    return read_fault(model, error.code().name, error.details() or "no details")


async def _ended(model: str, call: grpc.aio.Call) -> StepAudioError:
    code = await call.code()
    said = f"the call ended with {code.name} before the request was sent"
    if code in (grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED):
        return read_fault(model, code.name, said)
    return RoomUnavailableError(f"{model}: {said}")
