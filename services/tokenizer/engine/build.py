"""The linguistic encoder as a TensorRT plan: `python -m services.tokenizer.engine.build [--precision float16]`.

Rows of a fixed second of audio by the plan and by torch must be nearly equal: their nearest centroids are the codes.

Needs the extra `engine`, TensorRT and a CUDA device; everything but their calls is tested without.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch

from services.shared.graphs.cache import GraphFolder
from services.shared.graphs.plans.buckets import buckets_of
from services.shared.graphs.plans.command import Workshop, run_build
from services.shared.graphs.plans.gate import Gate, relative_distance
from services.shared.graphs.plans.keys import Precision
from services.shared.graphs.plans.session import PlanSession
from services.shared.graphs.plans.store import PlanOrder, PlanPlace, ensure_plans
from services.shared.paths import TOKENIZER_FOLDER
from services.tokenizer import graphs
from services.tokenizer.engine.export import ensure_tokenizer_graphs
from services.tokenizer.engine.profiles import RANGES
from services.tokenizer.onnx_networks import by_session
from services.tokenizer.paraformer.linguistic import LinguisticEncoder, load_linguistic_encoder

ROWS_BOUND: Final = 0.02
"""Mean difference of rows, relative to their size; centroids lie much further apart."""
SHARED_AXES: Final = {"W": 1}
"""A stream that keeps up has one window a call: the usual case has a range of its own, a replay another."""
_SAMPLES: Final = 16_000
_PUSH_SAMPLES: Final = 3_840


def ensure_tokenizer_plans(folder: str | Path, workshop: Workshop) -> GraphFolder:
    """The plan of a Step-Audio-Tokenizer folder, made if it is absent, out of date or damaged.

    Args:
        folder: the public layout of a tokenizer.
        workshop: with what.

    Raises:
        CheckpointError: the folder cannot be used, TensorRT does not take the graph, or rows are beyond the bound.
    """
    exported = ensure_tokenizer_graphs(folder, workshop.cache)
    device = str(workshop.device)
    spec = graphs.linguistic_encoder(load_linguistic_encoder(folder).encoder.config)
    # One sample of audio would set float8's scales by chance, and the encoder is a small part of a turn.
    precision: Precision = "float16" if workshop.precision == "float8" else workshop.precision

    def measure(plans: Mapping[str, bytes]) -> Gate:
        by_torch = load_linguistic_encoder(folder, device=device)
        plan = workshop.builder.open(plans[spec.name])
        session = PlanSession(plan, spec.name, workshop.accelerator)
        by_plan = by_session(load_linguistic_encoder(folder, device=device), session)
        return Gate("rows of the linguistic encoder", relative_distance(_rows(by_torch), _rows(by_plan)), ROWS_BOUND)

    return ensure_plans(
        exported,
        (PlanOrder(spec, precision, buckets_of(spec, RANGES, shared=SHARED_AXES)),),
        workshop.builder,
        PlanPlace(workshop.cache, graphs.ROOM, graphs.graphs_key(folder), workshop.precision),
        measure=measure,
    )


def _rows(encoder: LinguisticEncoder) -> torch.Tensor:
    """Rows of noise, pushed in chunks of 240 ms and, behind them, all at once."""
    audio = np.random.default_rng(0).standard_normal(_SAMPLES).astype(np.float32) * np.float32(0.1)
    rows, state = [], encoder.initial_state()
    for place in range(0, _SAMPLES, _PUSH_SAMPLES):
        final = place + _PUSH_SAMPLES >= _SAMPLES
        new, state = encoder.encode(audio[place : place + _PUSH_SAMPLES], state, final=final)
        rows.append(new)
    whole, _ = encoder.encode(audio, encoder.initial_state(), final=True)
    return torch.cat([*rows, whole])


def build_all(checkpoints: Path, workshop: Workshop) -> list[GraphFolder]:
    """The plan of the tokenizer."""
    return [ensure_tokenizer_plans(checkpoints / TOKENIZER_FOLDER, workshop)]


if __name__ == "__main__":
    sys.exit(run_build(graphs.ROOM, build_all))
