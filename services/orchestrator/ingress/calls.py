"""What every call of the API passes through: who calls, whether one more may run, and what becomes of its errors.

    request ─► is this replica draining? ─► credentials ─► the tenant's limits ─► the service
    status  ◄──────────────── google.rpc.Status with details ◄──────────────────── whatever was raised

Health and reflection pass untouched. Services write streams themselves (grpc.aio's reader-writer form), so that a call
that is cancelled unwinds at once where it waits, and holds nothing until a collector comes by. Cancellation passes
through here as it is.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from services.orchestrator.ingress.auth import Admissions, Caller, Kind, Tenants
from services.orchestrator.ingress.faults import DETAILS_TRAILER, Faults, status_code, to_status
from services.shared.errors import DrainingError, InvalidInputError, StepAudioError

API_PREFIX: Final = "/stepaudio."
CONVERSE: Final = "/stepaudio.v1.ConversationService/Converse"
TRACE_PARENT: Final = "traceparent"
HEARING_OUT_S: Final = 0.1

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # one interceptor serves the messages of every method
Behaviour: TypeAlias = "Callable[[Any, Context], Awaitable[Any]]"  # as above
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # as above

_CALLER: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    """Who makes the call that is being served."""
    return _CALLER.get()


def traceparent(context: Context) -> str:
    """The W3C trace context that the caller sent; empty without one."""
    for key, value in context.invocation_metadata() or ():
        if key == TRACE_PARENT and isinstance(value, str):
            return value
    return ""


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """Stands for a request whose bytes are no message of its type."""

    cause: DecodeError


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Stands before the services.

    Args:
        tenants: the credentials that are known.
        admissions: counts what is open.
        faults: makes of any exception an error that may be told.
    """

    def __init__(self, tenants: Tenants, admissions: Admissions, faults: Faults) -> None:
        self._tenants = tenants
        self._admissions = admissions
        self._faults = faults
        self._is_draining = False

    def begin_drain(self) -> None:
        """From now on no new call is served; those under way go on."""
        self._is_draining = True

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Put the checks around a method of the API; others and unknown ones are left alone."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(API_PREFIX):
            return handler
        parse, write = handler.request_deserializer, handler.response_serializer
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(self._around(method, handler.stream_stream), parse, write)
        if handler.unary_stream is not None:
            around = self._around(method, handler.unary_stream)
            return grpc.unary_stream_rpc_method_handler(around, _tolerant(parse), write)
        return grpc.unary_unary_rpc_method_handler(self._around(method, handler.unary_unary), _tolerant(parse), write)

    def _around(self, method: str, behaviour: Any) -> Any:  # the handler's types say nothing of asyncio
        kind = Kind.CONVERSATION if method == CONVERSE else Kind.CALL

        async def guarded(request: Any, context: Context) -> Any:  # messages of every method
            try:
                return await self._serve(kind, behaviour, request, context)
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001  # the one place where errors become statuses
                await _hear_out(request)
                await _abort(context, self._faults.told(error, where=method))

        return guarded

    async def _serve(self, kind: Kind, behaviour: Behaviour, request: object, context: Context) -> object:
        if self._is_draining:
            raise DrainingError("this replica shuts down; call again, another one answers")
        who = self._tenants.identify(context.invocation_metadata() or (), context.auth_context())
        if isinstance(request, _Unreadable):
            raise InvalidInputError("the bytes are no message of this call") from request.cause
        with self._admissions.admit(who, kind):
            _CALLER.set(who)
            return await behaviour(request, context)


def _tolerant(parse: Callable[[bytes], object] | None) -> Callable[[bytes], object] | None:
    """A deserializer whose failure is met inside the call, where it can be told with details."""

    if parse is None:
        return None

    def parsed(data: bytes) -> object:
        try:
            return parse(data)
        except DecodeError as error:
            return _Unreadable(error)

    return parsed


async def _hear_out(request: object) -> None:
    """Take what a client has sent to a stream that is refused, for a moment.

    A client that is still sending when its stream ends may see its own failed write (INTERNAL, without details) in
    place of the status.
    """
    if isinstance(request, AsyncIterator):
        with suppress(TimeoutError, DecodeError):
            async with asyncio.timeout(HEARING_OUT_S):
                async for _ in request:
                    pass


async def _abort(context: Context, error: StepAudioError) -> None:
    status = to_status(error)
    trailer = ((DETAILS_TRAILER, status.SerializeToString()),)
    await context.abort(status_code(error), status.message, trailer)
