"""The product's objectives, and their alerts by burn rate over two windows at once.

    error budget   1 - target, spent evenly in 30 days at burn rate 1
    page           14.4 × over 1 h (2 % of the month's budget is gone), and still so over 5 min
                    6   × over 6 h (5 %),                               and still so over 30 min
    ticket          3   × over 1 d (10 %),                              and still so over 2 h
                    1   × over 3 d (10 %),                              and still so over 6 h

The long window says that it matters, the short one that it has not ended. An alert needs `_LEAST_TURNS` in its long
window: of three turns in a night one may be late. Ratios are by namespace, as one release lives in one.

It does not know of causes; those alerts stand in rules/causes.yaml.

Source of the windows and factors: Google, "The Site Reliability Workbook", chapter 5, alerting on SLOs.
"""

from dataclasses import dataclass
from typing import Any, Final

import yaml

from services.shared.telemetry.catalogue import (
    BARGE_IN_SILENCE,
    ENDED_TURNS,
    FIRST_AUDIO,
    ORCHESTRATOR,
    UNDERRUN_TURNS,
)

_WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
_LEAST_TURNS: Final = 20
FIRST_AUDIO_LIMIT_S: Final = 1.5
"""A bound of the histogram's buckets: longer silences are those after which people speak again."""
BARGE_IN_LIMIT_S: Final = 0.1
"""A bound of that histogram's buckets: with the 192 ms of speech that interrupt unless a caller chooses otherwise, the
agent has fallen silent within 0.3 s of the user's first sound."""

_HEADER: Final = "# Made by `python -m monitoring` from monitoring/objectives.py; change it there.\n"


@dataclass(frozen=True, slots=True)
class Objective:
    """What callers are promised.

    Attributes:
        key: its place in the names of recorded series.
        alert: name of its alert, and of its runbook.
        target: share of good turns.
        bad: query of the rate of bad turns, `$window` for the range.
        turns: query of the rate of all turns that count.
        broken: what an alert says has happened, in a sentence's words.
        counted: what its turns are, in the same sentence.
    """

    key: str
    alert: str
    target: float
    bad: str
    turns: str
    broken: str
    counted: str = "turns"


@dataclass(frozen=True, slots=True)
class Burn:
    """One pair of windows: how fast the budget burns, and who is told."""

    long: str
    short: str
    factor: float
    lasting: str
    severity: str


BURNS: Final = (
    Burn("1h", "5m", 14.4, "2m", "page"),
    Burn("6h", "30m", 6, "15m", "page"),
    Burn("1d", "2h", 3, "1h", "ticket"),
    Burn("3d", "6h", 1, "3h", "ticket"),
)
_SECONDS: Final = {"1h": 3_600, "6h": 21_600, "1d": 86_400, "3d": 259_200}

_FIRST: Final = FIRST_AUDIO.name(ORCHESTRATOR)
_SPOKEN: Final = _FIRST + '_count{origin="speech"}'
_IN_TIME: Final = f'{_FIRST}_bucket{{origin="speech",le="{FIRST_AUDIO_LIMIT_S}"}}'
_SILENCED: Final = BARGE_IN_SILENCE.name(ORCHESTRATOR)
_SILENT_IN_TIME: Final = f'{_SILENCED}_bucket{{le="{BARGE_IN_LIMIT_S}"}}'
_ENDED: Final = ENDED_TURNS.name(ORCHESTRATOR)


def _rate(series: str) -> str:
    return f"sum by (namespace) (rate({series}[$window]))"


OBJECTIVES: Final = (
    Objective(
        key="first_audio",
        alert="StepaudioFirstAudioLate",
        target=0.95,
        bad=f"{_rate(_SPOKEN)} - {_rate(_IN_TIME)}",
        turns=_rate(_SPOKEN),
        broken=f"replies begin later than {FIRST_AUDIO_LIMIT_S} s after the user's turn",
    ),
    Objective(
        key="underruns",
        alert="StepaudioReplyUnderruns",
        target=0.99,
        bad=_rate(UNDERRUN_TURNS.name(ORCHESTRATOR)),
        turns=_rate(f"{_FIRST}_count"),
        broken="replies stop within, as the player runs dry",
    ),
    Objective(
        key="turns",
        alert="StepaudioTurnsFail",
        target=0.995,
        bad=_rate(f'{_ENDED}{{outcome="failed"}}'),
        turns=_rate(_ENDED),
        broken="turns end with an error",
    ),
    Objective(
        key="barge_in",
        alert="StepaudioBargeInLate",
        target=0.99,
        bad=f"{_rate(f'{_SILENCED}_count')} - {_rate(_SILENT_IN_TIME)}",
        turns=_rate(f"{_SILENCED}_count"),
        broken=f"the agent speaks on for more than {BARGE_IN_LIMIT_S} s",
        counted="interruptions",
    ),
)


def rules() -> dict[str, Any]:
    """The content of a file of Prometheus's rules."""
    groups: list[dict[str, Any]] = []
    for objective in OBJECTIVES:
        recorded = [rule for window in _WINDOWS for rule in _recordings(objective, window)]
        groups.append({"name": f"stepaudio.objective.{objective.key}", "rules": recorded})
    alerts = [_alert(objective, burn) for objective in OBJECTIVES for burn in BURNS]
    groups.append({"name": "stepaudio.objectives", "rules": alerts})
    return {"groups": groups}


def rules_text() -> str:
    """The same as YAML."""
    text: str = yaml.safe_dump(rules(), sort_keys=False, width=118, allow_unicode=True)
    return _HEADER + text


def ratio_series(objective: Objective, window: str) -> str:
    """Name of the recorded share of bad turns in a window."""
    return f"stepaudio:{objective.key}:bad_ratio_{window}"


def _recordings(objective: Objective, window: str) -> list[dict[str, str]]:
    bad, turns = (query.replace("$window", window) for query in (objective.bad, objective.turns))
    recorded = [{"record": ratio_series(objective, window), "expr": f"({bad}) / ({turns})"}]
    if window in _SECONDS:
        recorded.append({"record": f"stepaudio:{objective.key}:turns_rate_{window}", "expr": turns})
    return recorded


def _alert(objective: Objective, burn: Burn) -> dict[str, Any]:
    limit = f"{burn.factor * (1 - objective.target):.4g}"
    turns = f"{_LEAST_TURNS} / {_SECONDS[burn.long]}"
    return {
        "alert": objective.alert,
        "expr": f"{ratio_series(objective, burn.long)} > {limit}\n"
        f"and {ratio_series(objective, burn.short)} > {limit}\n"
        f"and stepaudio:{objective.key}:turns_rate_{burn.long} >= {turns}",
        "for": burn.lasting,
        "labels": {"severity": burn.severity, "window": burn.long},
        "annotations": {
            "summary": f"{{{{ $value | humanizePercentage }}}} of the {objective.counted}: {objective.broken}",
            "description": f"The objective is {1 - objective.target:.1%} at most. At this pace the month's budget "
            f"burns {burn.factor} times too fast, over {burn.long} and still over the last {burn.short}.",
            "runbook": f"docs/runbooks/{objective.alert}.md",
        },
    }
