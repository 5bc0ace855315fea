"""`ConversationService`: opens a stream of a session, lets it run, and lets go of it however it ends.

A call that ends in any way but by the conversation's own end detaches the session, which waits to be resumed; the
pipeline decides what becomes of it.
"""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from protos.gen.stepaudio.v1 import conversation_pb2, conversation_pb2_grpc
from services.orchestrator.ingress.calls import Context, caller, traceparent
from services.orchestrator.ingress.conversation_stream import ConversationStream, Request, StreamPatience
from services.orchestrator.ingress.limits import checked_session_id
from services.orchestrator.ingress.messages import Profile
from services.orchestrator.ingress.opening import Retention, first_message, read_resume, read_start
from services.orchestrator.ingress.tools import check_schemas
from services.orchestrator.pipeline.session import Stream
from services.orchestrator.pipeline.sessions import Sessions
from services.orchestrator.pipeline.voices import VoiceBook
from services.orchestrator.ports.store import SessionStore
from services.shared.audio.positions import OutputPositions


class ConversationService(conversation_pb2_grpc.ConversationServiceServicer):
    """Serves conversations.

    Args:
        sessions: of this replica.
        store: tells the formats of a session that is to be resumed.
        voices: those that can be asked for.
        profile: what is told of this server.
        retention: of ended sessions.
        patience: how long clients are waited for.
        clock: monotonic seconds, the pipeline's.
    """

    def __init__(
        self,
        sessions: Sessions,
        store: SessionStore,
        voices: VoiceBook,
        profile: Profile,
        *,
        retention: Retention,
        patience: StreamPatience,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sessions = sessions
        self._store = store
        self._voices = voices
        self._profile = profile
        self._retention = retention
        self._patience = patience
        self._clock = clock

    async def Converse(  # type: ignore[override]  # noqa: N802  # the reader-writer form; the generated name
        self, request_iterator: AsyncIterator[Request], context: Context
    ) -> None:
        """Hold a conversation."""
        requests = aiter(request_iterator)
        first = await first_message(requests, patience_s=self._patience.first_message_s)
        stream = await self._open(first, traceparent(context))
        try:
            conversation = ConversationStream(
                stream,
                self._profile,
                self._voices,
                patience=self._patience,
                clock=self._clock,
            )
            await conversation.run(requests, context.write)
        finally:
            self._sessions.detach(stream)

    async def _open(self, first: Request, trace: str) -> Stream:
        tenant = caller().tenant
        if first.HasField("start"):
            await check_schemas(first.start.options.tools.tools)
            start = read_start(first.start, tenant, self._profile.offer, self._retention)
            return await self._sessions.start(replace(start, traceparent=trace))
        positions = await self._reply_positions(tenant, first.resume)
        return await self._sessions.resume(replace(read_resume(first.resume, tenant, positions), traceparent=trace))

    async def _reply_positions(self, tenant: str, resume: conversation_pb2.SessionResume) -> OutputPositions | None:
        """How the session counts its replies' samples, where the client says what it heard of one."""
        if not resume.HasField("playback"):
            return None
        kept = await self._store.get(tenant, checked_session_id(resume.session_id, "resume.session_id"))
        return OutputPositions(self._profile.native_rate_hz, kept.formats.reply_rate_hz)
