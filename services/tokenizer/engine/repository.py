"""The tokenizer's graph as a Triton model: `python -m services.tokenizer.engine.repository --target FOLDER`."""

import sys
from pathlib import Path

from services.shared.graphs.plans.buckets import buckets_of
from services.shared.graphs.plans.command import Workshop
from services.shared.graphs.repository import GraphModels, run_repository
from services.shared.paths import PARAFORMER_FOLDER, TOKENIZER_FOLDER
from services.tokenizer import graphs
from services.tokenizer.engine.build import SHARED_AXES, ensure_tokenizer_plans
from services.tokenizer.engine.export import ensure_tokenizer_graphs
from services.tokenizer.engine.profiles import RANGES
from services.tokenizer.paraformer.config import read_folder


def find(checkpoints: Path, cache: Path, workshop: Workshop | None) -> GraphModels:
    """The graph of a tokenizer folder, or with a workshop its plan."""
    folder = checkpoints / TOKENIZER_FOLDER
    made = ensure_tokenizer_plans(folder, workshop) if workshop else ensure_tokenizer_graphs(folder, cache)
    spec = graphs.linguistic_encoder(read_folder(folder / PARAFORMER_FOLDER).encoder)
    buckets = {spec.name: buckets_of(spec, RANGES, shared=SHARED_AXES)}
    return GraphModels(graphs.ROOM, (spec,), buckets, made.path)


if __name__ == "__main__":
    sys.exit(run_repository(graphs.ROOM, find))
