"""docs/metrics.md from the catalogue: `python -m services.shared.telemetry.document docs/metrics.md`."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from services.shared.telemetry.catalogue import (
    ENGINE_METRICS,
    MODEL_METRICS,
    ORCHESTRATOR,
    ORCHESTRATOR_METRICS,
    MetricSpec,
    error_reasons,
)
from services.shared.triton.specs import STEP1_CHAT, STEP1_TTS

_HEAD: Final = """\
# Metrics

Made from [`services/shared/telemetry/catalogue.py`](../services/shared/telemetry/catalogue.py) by
`python -m services.shared.telemetry.document docs/metrics.md`; a test holds the page to it.

Names are `stepaudio_<stage>_<what>_<unit>[_total]`. Labels have the values listed and no others: no series is made for
a session, a turn or a tenant. A histogram `x` has the series `x_bucket{le}`, `x_sum` and `x_count`.
"""
_ORCHESTRATOR: Final = """
## The orchestrator

On each replica's metrics port. Counters and histograms of a turn are written when the turn is committed; its parts of
`first_audio_seconds` are also in `TurnEnded.metrics` of the public API.
"""
_MODELS: Final = """
## The rooms

On each Triton server's `/metrics`, beside Triton's own.
"""
_ENGINE: Final = """
## The language models on vLLM

Besides, on `step1_chat` and `step1_tts` with `STEPAUDIO_ENGINE=vllm`, as the engine counts them and brought up to date
once a second; there `compute_seconds` and `batch_requests` stay empty.
"""
_TABLE: Final = "\n| metric | kind | labels | is |\n|---|---|---|---|\n"


def render() -> str:
    """The page."""
    text = _HEAD + _ORCHESTRATOR + _TABLE + "".join(_rows(ORCHESTRATOR_METRICS, ORCHESTRATOR)) + _MODELS + _TABLE
    text += "".join(row for model, specs in MODEL_METRICS.items() for row in _rows(specs, model))
    models = (STEP1_CHAT.name, STEP1_TTS.name)
    return text + _ENGINE + _TABLE + "".join(row for model in models for row in _rows(ENGINE_METRICS, model))


def _rows(specs: Iterable[MetricSpec], stage: str) -> Iterable[str]:
    for spec in specs:
        labels = "; ".join(f"{name}: {', '.join(_values(values))}" for name, values in spec.labels.items())
        yield f"| `{spec.name(stage)}` | {spec.kind} | {labels} | {spec.help_text} |\n"


def _values(values: tuple[str, ...]) -> Iterable[str]:
    reasons = set(error_reasons())
    listed = [f"`{value}`" for value in values if value not in reasons]
    return listed if len(listed) == len(values) else [*listed, "every reason of [the API](api.md#errors)"]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
