"""One `Converse` call on a connection of its own, and the first message with its formats filled in."""

import asyncio
from typing import TYPE_CHECKING, Final, TypeAlias

import grpc
from grpc._cython import cygrpc

from protos.gen.stepaudio.v1 import conversation_pb2, conversation_pb2_grpc
from services.shared.errors import InvalidOptionError
from stepaudio.errors import ApiError
from stepaudio.formats import check_plain, pcm16
from stepaudio.server import Server

if TYPE_CHECKING:  # generic for the type checker alone
    ConverseCall: TypeAlias = grpc.aio.StreamStreamCall[
        conversation_pb2.ConverseRequest, conversation_pb2.ConverseResponse
    ]
else:
    ConverseCall = grpc.aio.StreamStreamCall

_STATUS_LOST: Final = "Internal error from Core"
DEFAULT_INPUT_RATE_HZ: Final = 16000
DEFAULT_REPLY_RATE_HZ: Final = 24000


class Stream:
    """One stream; a new connection each, so that another replica may answer.

    Args:
        server: where to.

    Attributes:
        call: the stream, opened.
    """

    def __init__(self, server: Server) -> None:
        self._channel = server.open_channel()
        stub = conversation_pb2_grpc.ConversationServiceStub(self._channel)
        self.call: ConverseCall = stub.Converse(metadata=server.metadata)

    async def begin(self, first: conversation_pb2.ConverseRequest) -> bool:
        """Send the first message; False if the stream has ended."""
        try:
            await self.call.write(first)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return False
        return True

    async def write(self, message: conversation_pb2.ConverseRequest) -> bool:
        """Send a later message; False if the stream has ended, whose status the reader gets.

        This goes below `call.write`: where the stream has just ended, that one replaces the server's status, OK among
        them, by an INTERNAL of its own, for the reader too.
        """
        try:
            # grpc.aio has no public way to write without that.
            await self.call._cython_call.send_serialized_message(message.SerializeToString())  # type: ignore[attr-defined]  # private
        except (cygrpc.InternalError, asyncio.InvalidStateError):
            return False
        return True

    async def close(self) -> None:
        """Cut the stream if it is open, and close its connection."""
        self.call.cancel()
        await self._channel.close()


def failure(error: grpc.aio.AioRpcError) -> ApiError:
    """What a stream failed with.

    A first message that is written while the stream ends makes grpc.aio forget the server's status; that is taken as a
    lost connection, since beginning again is harmless.
    """
    if error.code() is grpc.StatusCode.INTERNAL and error.details() == _STATUS_LOST:
        return ApiError("the stream ended before its first message was written", code=grpc.StatusCode.UNAVAILABLE)
    return ApiError.from_call(error)


def with_formats(
    start: conversation_pb2.SessionStart | None, player_rate_hz: int | None
) -> conversation_pb2.SessionStart:
    """The first message of a session.

    Args:
        start: as the caller wants it; left as it is.
        player_rate_hz: of the player; None without one.

    Raises:
        InvalidOptionError: the player's rate is not that of the replies.
        UnsupportedAudioFormatError: replies of this format cannot be played.
    """
    complete = conversation_pb2.SessionStart()
    if start is not None:
        complete.CopyFrom(start)
    if not complete.HasField("input_audio"):
        complete.input_audio.CopyFrom(pcm16(DEFAULT_INPUT_RATE_HZ))
    if not complete.HasField("reply_audio"):
        complete.reply_audio.CopyFrom(pcm16(player_rate_hz or DEFAULT_REPLY_RATE_HZ))
    if player_rate_hz is not None:
        check_plain(complete.reply_audio)
        if player_rate_hz != complete.reply_audio.sample_rate_hz:
            raise InvalidOptionError(
                f"the player plays at {player_rate_hz} Hz, the replies come at {complete.reply_audio.sample_rate_hz} Hz"
            )
    return complete
