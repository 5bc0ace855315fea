"""What was heard of a reply, and which words those were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.conversation.events import Playback
from services.orchestrator.conversation.playout import ACKNOWLEDGEMENT_GRACE_S, Playout, whole_words

pytestmark = pytest.mark.unit


def sent(*ends: int, at_s: float = 0.0, acknowledged: int | None = None) -> Playout:
    playout = Playout(rate_hz=1000, acknowledged_samples=acknowledged)
    for end in ends:
        playout = playout.sending(at_s, end, end // 100)
    return playout


def test_without_acknowledgements_a_reply_plays_in_real_time_from_its_first_audio() -> None:
    playout = sent(500, 2000, at_s=10.0)
    assert [playout.heard_samples(at_s) for at_s in (10.0, 10.75, 12.0, 99.0)] == [0, 750, 2000, 2000]
    assert playout.lead_s(10.5) == 1.5


def test_the_clock_stands_still_while_nothing_was_sent_and_counts_it() -> None:
    playout = sent(500, at_s=10.0).sending(11.0, 1500, 15)
    assert playout.heard_samples(11.25) == 750
    assert playout.underruns == 1
    assert playout.heard_by_s == 12.0


def test_an_acknowledgement_has_the_word_over_the_clock() -> None:
    playout = sent(2000).acknowledging(1.0, Playback(1, 300, underruns=2))
    assert playout.heard_samples(1.5) == 300
    assert playout.underruns == 2


def test_an_acknowledgement_never_takes_back_an_earlier_one_nor_exceeds_what_was_sent() -> None:
    playout = sent(2000).acknowledging(1.0, Playback(1, 300))
    assert playout.acknowledging(1.1, Playback(1, 200)) == playout
    assert playout.acknowledging(1.1, Playback(1, 9000)).heard_samples(1.1) == 2000


def test_a_reply_acknowledged_to_within_a_few_samples_was_heard_to_its_end() -> None:
    playout = sent(2000).acknowledging(1.0, Playback(1, 1991))
    assert playout.heard_samples(1.0) == 2000


def test_a_client_that_stops_acknowledging_holds_nothing_up() -> None:
    playout = sent(2000).acknowledging(1.0, Playback(1, 1500))
    assert playout.heard_by_s == 2.0 + ACKNOWLEDGEMENT_GRACE_S
    assert playout.heard_samples(playout.heard_by_s - 0.1) == 1500
    assert playout.heard_samples(playout.heard_by_s) == 2000
    assert playout.is_unanswered(playout.heard_by_s)
    assert not sent(2000).is_unanswered(99.0)


def test_characters_rise_evenly_within_a_chunk() -> None:
    playout = sent(1000, 3000)
    assert [playout.characters_at(sample) for sample in (0, 500, 1000, 2000, 3000, 9000)] == [0, 5, 10, 20, 30, 30]


@pytest.mark.parametrize(
    ("characters", "heard"),
    [
        (0, ""),
        (3, "It"),
        (2, "It"),
        (5, "It"),
        (8, "It rains"),
        (9, "It rains"),
        (12, "It rains"),
        (99, "It rains, don't."),
    ],
)
def test_a_word_that_was_cut_is_left_out(characters: int, heard: str) -> None:
    assert whole_words("It rains, don't.", characters).rstrip(",") == heard


def test_scripts_without_spaces_are_cut_at_any_character() -> None:
    assert whole_words("今天下雨", 2) == "今天"
    assert whole_words("今天rain", 4) == "今天"


@given(st.text(), st.integers(-5, 50))
def test_what_was_heard_is_always_a_beginning(text: str, characters: int) -> None:
    heard = whole_words(text, characters)
    assert text.startswith(heard)
    assert len(heard) <= max(0, characters)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=8), st.integers(0, 5000), st.floats(0, 10))
def test_heard_never_exceeds_sent_and_never_falls_with_time(lengths: list[int], played: int, later_s: float) -> None:
    playout, end = Playout(rate_hz=1000), 0
    for index, length in enumerate(lengths):
        end += length
        playout = playout.sending(index * 0.2, end, end // 10)
    now_s = len(lengths) * 0.2
    for one in (playout, playout.acknowledging(now_s, Playback(1, played))):
        assert 0 <= one.heard_samples(now_s) <= one.heard_samples(now_s + later_s) <= end


def silences(arrivals: list[tuple[float, int]], rate_hz: int) -> int:
    """How often a player that plays what it has at once fell silent, and had more to play later: sample by sample."""
    ends = [sum(length for _, length in arrivals[: place + 1]) for place in range(len(arrivals))]
    now_s, played, count = arrivals[0][0], 0, 0
    while played < ends[-1]:
        there = max((end for (at_s, _), end in zip(arrivals, ends, strict=True) if at_s <= now_s + 1e-9), default=0)
        if played < there:
            played += 1
            now_s += 1 / rate_hz
        else:
            count += 1
            now_s = next(at_s for at_s, _ in arrivals if at_s > now_s + 1e-9)
    return count


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 30)), min_size=1, max_size=12))
def test_the_servers_clock_counts_as_many_underruns_as_a_player_that_plays_sample_by_sample(
    chunks: list[tuple[int, int]],
) -> None:
    rate_hz = 16  # times are whole samples, so that the last sample's end is no matter of rounding
    arrivals, at = [], 0
    for wait, length in chunks:
        at += wait
        arrivals.append((at / rate_hz, length))
    playout, end = Playout(rate_hz), 0
    for at_s, length in arrivals:
        end += length
        playout = playout.sending(at_s, end, 0)
    assert playout.underruns == silences(arrivals, rate_hz)


def test_a_reply_that_was_stopped_and_goes_on_did_not_run_dry_meanwhile() -> None:
    playout = sent(2000).stopped_at(500, 5).sending(9.0, 1500, 15)
    assert playout.underruns == 0
    assert playout.sending(10.5, 2000, 20).underruns == 1


def test_a_client_that_plays_faster_than_real_time_has_the_slack_of_one_that_does_not() -> None:
    playout = sent(2000).acknowledging(0.1, Playback(1, 2000))
    assert (playout.lead_s(0.5), playout.slack_s(0.5)) == (0.0, 1.5)
    assert playout.slack_s(3.0) == 0.0


def test_a_player_behind_the_clock_has_the_slack_that_it_tells() -> None:
    assert sent(2000).acknowledging(1.0, Playback(1, 300)).slack_s(1.0) == 1.7


def test_a_stopped_reply_has_no_slack_until_it_goes_on() -> None:
    stopped = sent(2000).stopped_at(500, 5)
    assert stopped.slack_s(0.1) == 0.0
    assert stopped.sending(0.1, 1500, 15).slack_s(0.1) == 1.0
