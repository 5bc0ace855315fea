"""`SessionService`: what is kept of conversations, read from the store; a deletion goes through the live sessions."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from protos.gen.stepaudio.v1 import session_pb2, session_pb2_grpc
from services.orchestrator.ingress.calls import Context, caller
from services.orchestrator.ingress.limits import checked_session_id, page_size
from services.orchestrator.ingress.options import Offer, to_message
from services.orchestrator.ingress.paging import PageTokens
from services.orchestrator.ingress.records import kept_turn_message, timestamp
from services.orchestrator.pipeline.sessions import Sessions
from services.orchestrator.ports.store import KeptSession, SessionStore

PAGE_BYTES: Final = 2 * 1024 * 1024
"""A page ends before it would be too large a message for a client with gRPC's usual limit."""
STORE_S: Final = 5.0

_STATES: Final[Mapping[str, session_pb2.SessionState.ValueType]] = MappingProxyType(
    {
        "live": session_pb2.SESSION_STATE_LIVE,
        "detached": session_pb2.SESSION_STATE_DETACHED,
        "ended": session_pb2.SESSION_STATE_ENDED,
    }
)


class SessionService(session_pb2_grpc.SessionServiceServicer):
    """Serves what is kept.

    Args:
        sessions: of this replica, for deletions.
        store: of all sessions.
        offer: fills in what a session left to the server.
        pages: gives and reads page tokens.
    """

    def __init__(self, sessions: Sessions, store: SessionStore, offer: Offer, pages: PageTokens) -> None:
        self._sessions = sessions
        self._store = store
        self._offer = offer
        self._pages = pages

    async def GetSession(  # noqa: N802  # the generated name
        self, request: session_pb2.GetSessionRequest, context: Context
    ) -> session_pb2.GetSessionResponse:
        """Tell one session's state."""
        async with asyncio.timeout(STORE_S):
            kept = await self._store.get(caller().tenant, checked_session_id(request.session_id))
        return session_pb2.GetSessionResponse(session=_session_message(kept, self._offer))

    async def ListTurns(  # noqa: N802  # the generated name
        self, request: session_pb2.ListTurnsRequest, context: Context
    ) -> session_pb2.ListTurnsResponse:
        """List committed turns, a page at a time."""
        tenant, session_id = caller().tenant, checked_session_id(request.session_id)
        limit = page_size(request.page_size)
        scope = ("turns", tenant, session_id)
        after = int(self._pages.read(scope, request.page_token)) if request.page_token else 0
        async with asyncio.timeout(STORE_S):
            kept = await self._store.turns(tenant, session_id, after=after, limit=limit + 1)
        response = session_pb2.ListTurnsResponse()
        size = 0
        for turn in kept[:limit]:
            message = kept_turn_message(turn)
            size += message.ByteSize()
            if response.turns and size > PAGE_BYTES:
                break
            response.turns.append(message)
        if len(response.turns) < len(kept):
            response.next_page_token = self._pages.issue(scope, str(response.turns[-1].number))
        return response

    async def DeleteSession(  # noqa: N802  # the generated name
        self, request: session_pb2.DeleteSessionRequest, context: Context
    ) -> session_pb2.DeleteSessionResponse:
        """Delete a session; a live conversation of it ends first."""
        async with asyncio.timeout(STORE_S):
            await self._sessions.delete(caller().tenant, checked_session_id(request.session_id))
        return session_pb2.DeleteSessionResponse()


def _session_message(kept: KeptSession, offer: Offer) -> session_pb2.Session:
    message = session_pb2.Session(
        session_id=kept.session_id,
        state=_STATES[kept.state],
        options=to_message(kept.options, offer),
        labels=dict(kept.labels),
        turn_count=kept.turn_count,
        create_time=timestamp(kept.created_s),
        last_active_time=timestamp(kept.active_s),
    )
    if kept.expire_s is not None:
        message.expire_time.CopyFrom(timestamp(kept.expire_s))
    return message
