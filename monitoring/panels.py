"""Parts of every dashboard: the variables, and panels that always say what they show and in which unit.

Queries may hold `$namespace` (a pattern) and `$__rate_interval`; Grafana fills them in.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef, VariableOption, VariableRefresh

_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
_HEIGHT: Final = 8
_ROW_WIDTH: Final = 24


@dataclass(frozen=True, slots=True)
class Query:
    """One query, and what its lines are called: text with `{{label}}`."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture.

    Attributes:
        title, text: its name, and what a reader should know of it, in sentences.
        unit: of Grafana: s, percentunit, short, reqps, ...
        queries: what is drawn.
        width: of 24 columns.
        is_number: whether the newest value is shown as a number, instead of lines over time.
    """

    title: str
    text: str
    unit: str
    queries: tuple[Query, ...]
    width: int = 8
    is_number: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A heading with its panels."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A text box at the head of a dashboard that queries read as `$name`."""

    name: str
    label: str
    default: str


def build(uid: str, title: str, text: str, rows: tuple[Row, ...], *, entries: tuple[Entry, ...] = ()) -> dict[str, Any]:
    """Make a dashboard.

    Args:
        uid: its address in Grafana.
        title, text: its name, and the question that it answers.
        rows: from the most to the least important.
        entries: what the reader may fill in.

    Returns:
        Grafana's JSON as data.
    """
    board = (
        dashboards.Dashboard(title)
        .uid(uid)
        .description(text)
        .tags(["stepaudio"])
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-3h", "now")
        .refresh("30s")
        .readonly()
        .with_variable(dashboards.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_namespaces())
    )
    for entry in entries:
        board.with_variable(dashboards.TextBoxVariable(entry.name).label(entry.label).default_value(entry.default))
    for row in rows:
        assert sum(panel.width for panel in row.panels) % _ROW_WIDTH == 0, row.title
        board.with_row(dashboards.Row(row.title))
        for panel in row.panels:
            board.with_panel(_picture(panel))
    made: dict[str, Any] = json.loads(json.dumps(board.build(), cls=JSONEncoder))
    for number, picture in enumerate(made["panels"], start=1):
        picture["id"] = number
    return made


def _namespaces() -> dashboards.QueryVariable:
    return (
        dashboards.QueryVariable("namespace")
        .label("Namespace")
        .datasource(_SOURCE)
        .query("label_values(stepaudio_orchestrator_max_sessions, namespace)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def _picture(panel: Panel) -> stat.Panel | timeseries.Panel:
    picture = stat.Panel() if panel.is_number else timeseries.Panel().fill_opacity(8).min(0)
    picture.title(panel.title).description(panel.text).datasource(_SOURCE).unit(panel.unit)
    picture.height(_HEIGHT // 2 if panel.is_number else _HEIGHT).span(panel.width)
    for letter, query in zip("ABCDEFGH", panel.queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter)
        picture.with_target(target.instant() if panel.is_number else target.range())
    return picture
