"""The first message of a conversation, checked as a whole: nothing of it is begun before all of it is right.

A rule that conversation.proto leaves open, decided here: a first message that does not come within 10 s is none.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from protos.gen.stepaudio.v1 import chat_pb2, conversation_pb2
from services.orchestrator.conversation.events import Playback
from services.orchestrator.conversation.record import Message, Role
from services.orchestrator.ingress.audio_out import check_chunk_ms
from services.orchestrator.ingress.formats import read_format, stream_formats
from services.orchestrator.ingress.limits import (
    checked_count,
    checked_labels,
    checked_session_id,
    checked_text,
    checked_words,
    refusal,
)
from services.orchestrator.ingress.options import Offer, merge
from services.orchestrator.ingress.tools import read_exchange_part
from services.orchestrator.pipeline.sessions import ResumeRequest, StartRequest
from services.shared.audio.positions import OutputPositions
from services.shared.errors import (
    InvalidFirstMessageError,
    InvalidInputError,
    InvalidOptionError,
    MessageTooLargeError,
)

MAX_CONVERSE_BYTES: Final = 1024 * 1024
ROLES: Final = {
    chat_pb2.CHAT_ROLE_SYSTEM: Role.SYSTEM,
    chat_pb2.CHAT_ROLE_USER: Role.USER,
    chat_pb2.CHAT_ROLE_ASSISTANT: Role.ASSISTANT,
}

Request = conversation_pb2.ConverseRequest


@dataclass(frozen=True, slots=True)
class Retention:
    """How long an ended session can be read, in s: where the caller says nothing, and at most."""

    usual_s: int = 86_400
    longest_s: int = 2_592_000


async def first_message(requests: AsyncIterator[Request], *, patience_s: float) -> Request:
    """Wait for the message that begins a stream.

    Raises:
        InvalidFirstMessageError: none came in time, or another one.
        MessageTooLargeError: it has more than 1 MiB.
    """
    try:
        async with asyncio.timeout(patience_s):
            request = await anext(requests, None)
    except TimeoutError as error:
        raise InvalidFirstMessageError(f"no first message came within {patience_s:g} s") from error
    kind = None if request is None else request.WhichOneof("message")
    if request is None or kind not in ("start", "resume"):
        value = kind or "nothing"
        raise refusal(InvalidFirstMessageError, "message", value, "start or resume as the first message of a stream")
    check_size(request)
    return request


def check_size(request: Request) -> None:
    """Hold a message to the API's own limit, which is below the transport's. Raises MessageTooLargeError."""
    size = request.ByteSize()
    if size > MAX_CONVERSE_BYTES:
        raise refusal(MessageTooLargeError, "message", f"{size} bytes", f"at most {MAX_CONVERSE_BYTES} bytes")


def read_start(start: conversation_pb2.SessionStart, tenant: str, offer: Offer, retention: Retention) -> StartRequest:
    """Read how a session is to begin.

    Raises:
        UnsupportedAudioFormatError, InvalidOptionError, InvalidInputError, TextError: what is wrong, by field.
    """
    user = read_format(start.input_audio, "input_audio")
    reply = read_format(start.reply_audio, "reply_audio")
    check_chunk_ms(reply, start.reply_chunk_ms)
    kept_s = start.retention_s if start.HasField("retention_s") else retention.usual_s
    if not 0 <= kept_s <= retention.longest_s:
        raise refusal(InvalidOptionError, "retention_s", str(kept_s), f"0 to {retention.longest_s}")
    return StartRequest(
        tenant=tenant,
        formats=stream_formats(user, reply, start.reply_chunk_ms),
        options=merge(offer.defaults, start.options, offer, tenant=tenant),
        history=read_history(start.history),
        greeting=checked_words(start.greeting, "greeting") if start.greeting else "",
        labels=checked_labels(dict(start.labels)),
        retention_s=kept_s,
    )


def read_history(messages: Sequence[chat_pb2.ChatMessage]) -> tuple[Message, ...]:
    """Read what was said before. Raises InvalidInputError, InvalidOptionError, TextError."""
    return tuple(_read_message(message, f"history[{place}]") for place, message in enumerate(messages))


def _read_message(message: chat_pb2.ChatMessage, field: str) -> Message:
    match message.WhichOneof("content"):
        case "text":
            role = ROLES.get(message.role)
            if role is None:
                raise refusal(InvalidInputError, f"{field}.role", str(message.role), "the role of who says a text")
            return Message(role, checked_text(message.text, f"{field}.text"))
        case "tool_call" | "tool_result":
            return read_exchange_part(message, field)
        case kind:
            raise refusal(InvalidInputError, f"{field}.content", kind or "not set", "text, a call or its result")


def read_resume(
    resume: conversation_pb2.SessionResume, tenant: str, positions: OutputPositions | None
) -> ResumeRequest:
    """Read how a session goes on.

    Args:
        resume: what came.
        tenant: who asks.
        positions: of the session's replies; needed where the client says what it heard.

    Raises:
        InvalidInputError: a number below 0, or no session's id.
    """
    playback = None
    if resume.HasField("playback") and positions is not None:
        playback = read_playback(resume.playback, positions, "resume.playback")
    return ResumeRequest(
        tenant=tenant,
        session_id=checked_session_id(resume.session_id, "resume.session_id"),
        resume_token=resume.resume_token,
        received_sequence=checked_count(resume.received_sequence, "resume.received_sequence"),
        playback=playback,
        ended_turn=checked_count(resume.ended_turn, "resume.ended_turn"),
    )


def read_playback(ack: conversation_pb2.PlaybackAck, positions: OutputPositions, field: str) -> Playback:
    """Read what was heard, in the client's samples. Raises InvalidInputError below 0."""
    return Playback(
        turn=checked_count(ack.turn, f"{field}.turn"),
        played_samples=positions.ours(checked_count(ack.played_samples, f"{field}.played_samples")),
        underruns=checked_count(ack.underruns, f"{field}.underruns"),
    )
