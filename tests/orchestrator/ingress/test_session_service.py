"""What is kept of conversations, over a real server."""

import pytest

from protos.gen.stepaudio.v1 import session_pb2
from services.orchestrator.conversation.record import Origin, Outcome, TurnMetrics
from services.orchestrator.ports.store import KeptTurn, NewSession, StreamFormats
from services.shared.errors import RoomUnavailableError, SessionNotFoundError
from tests.orchestrator.ingress.serving import OFFER, Behind, refusal_of, run, serving

pytestmark = pytest.mark.contract


async def kept(turns: int = 0, text: str = "Hello.") -> Behind:
    """A store with one session of so many turns."""
    behind = Behind()
    formats = StreamFormats("pcm16", 16_000, "pcm16", 24_000)
    new = NewSession("default", "s", formats, OFFER.defaults, (), {"a": "b"}, behind.clock(), 60)
    lease = await behind.store.create(new, owner="a", token_digest="x")
    for number in range(1, turns + 1):
        start_s = behind.clock()
        turn = KeptTurn(number, Origin.TEXT, "Hi", text, Outcome.COMPLETED, start_s, start_s + 1, TurnMetrics())
        await behind.store.commit_turn(lease, turn)
    return behind


def test_a_session_tells_its_state_options_and_labels() -> None:
    async def test() -> None:
        behind = await kept(turns=2)
        async with serving(behind) as served:
            session = (await served.session.GetSession(session_pb2.GetSessionRequest(session_id="s"))).session
        assert session.session_id == "s"
        assert session.state in (session_pb2.SESSION_STATE_LIVE, session_pb2.SESSION_STATE_DETACHED)
        assert (session.turn_count, dict(session.labels)) == (2, {"a": "b"})
        assert session.options.voice.voice_id == "Fake"
        assert session.create_time.seconds == int(behind.clock())
        assert session.HasField("last_active_time")

    run(test)


def test_turns_are_listed_page_by_page_and_none_twice() -> None:
    async def test() -> None:
        async with serving(await kept(turns=5)) as served:
            numbers: list[int] = []
            token = ""
            for _ in range(3):
                request = session_pb2.ListTurnsRequest(session_id="s", page_size=2, page_token=token)
                page = await served.session.ListTurns(request)
                numbers += [turn.number for turn in page.turns]
                token = page.next_page_token
            assert numbers == [1, 2, 3, 4, 5]
            assert token == ""

    run(test)


def test_a_page_of_long_turns_ends_before_it_is_too_large_a_message() -> None:
    async def test() -> None:
        async with serving(await kept(turns=60, text="x" * 100_000)) as served:
            page = await served.session.ListTurns(session_pb2.ListTurnsRequest(session_id="s", page_size=100))
            assert 1 <= len(page.turns) < 60
            request = session_pb2.ListTurnsRequest(session_id="s", page_size=100, page_token=page.next_page_token)
            following = await served.session.ListTurns(request)
            assert following.turns[0].number == page.turns[-1].number + 1

    run(test)


def test_what_is_unknown_or_malformed_is_refused() -> None:
    async def test() -> None:
        async with serving(await kept()) as served:
            get, turns = served.session.GetSession, served.session.ListTurns
            assert (await refusal_of(get(session_pb2.GetSessionRequest(session_id="t")))).reason == "SESSION_NOT_FOUND"
            assert (await refusal_of(get(session_pb2.GetSessionRequest()))).reason == "INVALID_INPUT"
            wrong = session_pb2.ListTurnsRequest(session_id="s", page_token="x")
            assert (await refusal_of(turns(wrong))).reason == "INVALID_PAGE_TOKEN"
            negative = session_pb2.ListTurnsRequest(session_id="s", page_size=-1)
            assert (await refusal_of(turns(negative))).reason == "INVALID_INPUT"

    run(test)


def test_a_deletion_goes_through_the_live_sessions_and_tells_what_went_wrong() -> None:
    async def test() -> None:
        async with serving() as served:
            delete = session_pb2.DeleteSessionRequest(session_id="s")
            await served.session.DeleteSession(delete)
            assert served.sessions.deleted == [("default", "s")]
            served.sessions.refusal = SessionNotFoundError("no such session", session_id="s")
            assert (await refusal_of(served.session.DeleteSession(delete))).reason == "SESSION_NOT_FOUND"
            served.sessions.refusal = RoomUnavailableError("the store is away")
            away = await refusal_of(served.session.DeleteSession(delete))
            assert (away.reason, away.retry_s) == ("ROOM_UNAVAILABLE", 0.5)

    run(test)
