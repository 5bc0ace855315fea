"""Every query can be parsed, and reads nothing that is not exported, by a label that is not there."""

import pytest

from tests.monitoring.files import Placed, dashboards, panels, queries, rules  # isort: skip  # before what needs the extra
from monitoring.queries import engine_series, external_series, metric_names, own_series, selectors

pytestmark = pytest.mark.unit

RECORDED = {rule["record"] for rule in rules() if "record" in rule}
LISTED = set().union(*external_series().values())
ADDED_BY_PROMETHEUS = {"namespace", "job", "component", "instance", "pod", "le"}


@pytest.mark.parametrize("query", queries(), ids=str)
def test_a_query_reads_metrics_that_are_exported_recorded_or_listed(query: Placed) -> None:
    assert metric_names(query.expr) <= set(own_series()) | set(engine_series()) | RECORDED | LISTED


@pytest.mark.parametrize("query", queries(), ids=str)
def test_a_label_that_a_query_asks_for_can_have_that_value(query: Placed) -> None:
    own = own_series() | engine_series()
    for name, labels in selectors(query.expr):
        if name not in own:
            continue
        for label, value in labels.items():
            if label == "le":
                assert float(value) in own[name].buckets
            elif label not in ADDED_BY_PROMETHEUS:
                assert value in own[name].labels[label], f"{name}{{{label}}}"


def test_nothing_is_listed_or_recorded_that_nobody_reads() -> None:
    read = set().union(*(metric_names(query.expr) for query in queries()))
    assert read >= LISTED
    assert {name for name in RECORDED if not name.endswith(("_30m", "_2h", "_6h"))} <= read


def test_every_metric_of_the_orchestrator_is_on_a_dashboard_or_in_an_alert() -> None:
    read = set().union(*(metric_names(query.expr) for query in queries()))
    specs = {spec.what for name, spec in own_series().items() if name.startswith("stepaudio_orchestrator_")}
    seen = {spec.what for name, spec in own_series().items() if name in read}
    # Of underruns their turns are what people feel; the loop's tasks are for tests that look for leaks.
    assert specs - seen == {"playout_underruns_total", "event_loop_tasks"}


def test_the_state_of_the_engines_is_on_a_dashboard() -> None:
    read = set().union(*(metric_names(query.expr) for query in queries()))
    unread = {spec.what for spec in engine_series().values()} - {
        spec.what for name, spec in engine_series().items() if name in read
    }
    # The orchestrator sees queue and first token as its own first output, and counts the tokens of prompts itself.
    assert unread == {"queue_seconds", "first_token_seconds", "prompt_tokens_total"}


def test_dashboards_have_places_of_their_own_and_say_what_each_panel_shows() -> None:
    assert set(dashboards()) == {"conversation", "rooms", "gpus", "capacity"}
    assert len({board["uid"] for board in dashboards().values()}) == 4
    for name, panel in panels():
        where = f"{name}: {panel['title']}"
        assert panel["description"].endswith("."), where
        assert panel["fieldConfig"]["defaults"]["unit"], where
        assert panel["datasource"]["uid"] == "${datasource}", where
        assert panel["targets"], where


def test_no_two_panels_of_a_dashboard_lie_on_each_other() -> None:
    for name, board in dashboards().items():
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            x, y = place.get("x", 0), place.get("y", 0)
            cells = {(x + i, y + j) for i in range(place["w"]) for j in range(place["h"])}
            assert not cells & taken, f"{name}: {panel['title']}"
            assert x + place["w"] <= 24, f"{name}: {panel['title']}"
            taken |= cells


@pytest.mark.parametrize("query", ["sum(rate(x[5m])", '{job="stepaudio"}', "rate(x)"])
def test_a_query_that_is_wrong_or_names_no_metric_is_refused(query: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        metric_names(query)


def test_every_selector_of_a_query_is_seen() -> None:
    query = 'sum(rate(a{x="1"}[5m])) / on (x) (b offset 1h > bool 3) or max_over_time(c[1h:5m]) unless -(d)'
    assert sorted(selectors(query)) == [("a", {"x": "1"}), ("b", {}), ("c", {}), ("d", {})]
