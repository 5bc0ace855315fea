"""Errors as the public API has them: `google.rpc.Status` with ErrorInfo and, where trying again helps, RetryInfo.

What this project raises on purpose is told as it is. Anything else is a fault of the server's: the client gets INTERNAL
with an incident id and nothing of the inside, the log gets the traceback under the same id. Cancellation is no error
and never comes here. Source: protos/stepaudio/v1/errors.proto.
"""

import logging
import secrets
from collections.abc import Callable
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from services.shared.errors import DeadlineExceededError, InvalidInputError, StepAudioError

DOMAIN: Final = "stepaudio"
DETAILS_TRAILER: Final = "grpc-status-details-bin"
RETRY_DELAY_MS: Final = 500
"""What a client waits before its first new attempt."""
LONGEST_MESSAGE: Final = 1024
LONGEST_DETAIL: Final = 256
"""Characters. Trailers of more than 8 KiB break the call, and a value may be all that the caller sent."""

_log = logging.getLogger(__name__)


def to_status(error: StepAudioError) -> status_pb2.Status:
    """Write an error as a status with its details, for a trailer or an event."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    for key, value in error.details.items():
        info.metadata[key] = _shortened(value, LONGEST_DETAIL)
    details = [_packed(info)]
    if error.retryable:
        delay = Duration(nanos=RETRY_DELAY_MS * 1_000_000)
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    code: int = status_code(error).value[0]
    return status_pb2.Status(code=code, message=_shortened(str(error), LONGEST_MESSAGE), details=details)


def status_code(error: StepAudioError) -> grpc.StatusCode:
    """The gRPC status that an error becomes."""
    return grpc.StatusCode[error.grpc_code]


class Faults:
    """Makes of whatever went wrong an error that may be told.

    Args:
        new_incident: draws the id under which an unknown fault is logged and told.
    """

    def __init__(self, new_incident: Callable[[], str] = lambda: secrets.token_hex(8)) -> None:
        self._new_incident = new_incident

    def told(self, error: Exception, *, where: str) -> StepAudioError:
        """Give the error that the client is told; what nobody expected is logged with its traceback.

        Args:
            error: what was raised; of a group the first error that was raised on purpose.
            where: the call, for the log.
        """
        known = _known(error)
        if known is not None:
            return known
        incident = self._new_incident()
        _log.error("unexpected_fault", exc_info=error, extra={"incident": incident, "call": where})
        return StepAudioError(f"a fault of the server's; report incident {incident}")


def _known(error: BaseException) -> StepAudioError | None:
    if isinstance(error, StepAudioError):
        return error
    if isinstance(error, DecodeError):
        return InvalidInputError("the bytes are no message of this call")
    if isinstance(error, TimeoutError):
        return DeadlineExceededError("the work took longer than it may")
    if isinstance(error, BaseExceptionGroup):
        return next((known for known in map(_known, error.exceptions) if known is not None), None)
    return None


def _packed(detail: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed


def _shortened(text: str, longest: int) -> str:
    """Text that fits a trailer; lone surrogates, which no message can hold, become question marks."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return whole if len(whole) <= longest else whole[: longest - 1] + "…"
