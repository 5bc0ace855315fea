"""What goes wrong for a client, as one tree.

    ClientError
    ├── ApiError                   a call failed: status code and, where the server said so, reason and details
    ├── ConversationEndedError     something was to be sent after the conversation had ended
    └── DeviceError                no microphone or loudspeaker, or it fails

Wrong arguments, unreadable files among them, are the `InvalidInputError`s of services/shared/errors.py, as everywhere.
Reads google.rpc.Status as errors.proto lays it out; decides nothing about trying again, which retry.py does.
"""

from collections.abc import Mapping
from typing import Final, Self

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

ERROR_DOMAIN: Final = "stepaudio"
_STATUS_TRAILER: Final = "grpc-status-details-bin"
_CODE_BY_NUMBER: Final = {code.value[0]: code for code in grpc.StatusCode}


class ClientError(Exception):
    """Base of what the client raises on its own."""


class ConversationEndedError(ClientError):
    """The conversation has ended; nothing can be sent any more."""


class DeviceError(ClientError):
    """A microphone or loudspeaker is absent, or fails."""


class ApiError(ClientError):
    """A failed call, or what an `error` event or `turn_ended` tells of.

    Attributes:
        code: status code.
        reason: `ErrorReason` without its prefix; empty where the transport failed, which knows no reasons.
        details: `field`, `value`, `limit`, `session_id`, as far as they are known.
        retry_delay_s: what the server asks to wait before the next try; None where it asks for none.
        retryable: whether trying the same again can help: the server says so, or it was not reached.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        reason: str = "",
        details: Mapping[str, str] | None = None,
        retry_delay_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = dict(details or {})
        self.retry_delay_s = retry_delay_s
        self.retryable = retry_delay_s is not None or (not reason and code is grpc.StatusCode.UNAVAILABLE)

    def __str__(self) -> str:
        return f"{super().__str__()} ({self.reason or self.code.name})"

    @classmethod
    def from_status(cls, status: status_pb2.Status) -> Self:
        """Read the status of an event."""
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        reason, details, delay_s = "", {}, None
        for detail in status.details:
            if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
                reason, details = info.reason, dict(info.metadata)
            elif detail.Unpack(retry):
                delay_s = retry.retry_delay.ToTimedelta().total_seconds()
        code = _CODE_BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)
        return cls(status.message, code=code, reason=reason, details=details, retry_delay_s=delay_s)

    @classmethod
    def from_call(cls, error: grpc.aio.AioRpcError) -> Self:
        """Read the status of a failed call, from its trailer or, where the transport failed, from the code alone."""
        for key, value in error.trailing_metadata() or ():
            if key == _STATUS_TRAILER and isinstance(value, bytes):
                try:
                    return cls.from_status(status_pb2.Status.FromString(value))
                except DecodeError:
                    break
        return cls(error.details() or "no details", code=error.code())
