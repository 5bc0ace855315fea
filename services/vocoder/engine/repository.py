"""The vocoder's graphs as Triton models: `python -m services.vocoder.engine.repository --target FOLDER`."""

import sys
from pathlib import Path

from services.shared.graphs.plans.buckets import buckets_of
from services.shared.graphs.plans.command import Workshop
from services.shared.graphs.repository import GraphModels, run_repository
from services.shared.paths import TTS_FOLDER, VOCODER_FOLDER
from services.vocoder import graphs
from services.vocoder.config import load_config
from services.vocoder.engine.build import SHARED_AXES, ensure_vocoder_plans
from services.vocoder.engine.export import ensure_vocoder_graphs
from services.vocoder.engine.profiles import stream_ranges
from services.vocoder.flow import load_flow
from services.vocoder.hift import load_hift


def find(checkpoints: Path, cache: Path, workshop: Workshop | None) -> GraphModels:
    """The graphs of a vocoder folder, or with a workshop its plans."""
    folder = checkpoints / TTS_FOLDER / VOCODER_FOLDER
    made = ensure_vocoder_plans(folder, workshop).plans if workshop else ensure_vocoder_graphs(folder, cache)
    ranges = stream_ranges(load_flow(folder), load_hift(folder))
    specs = graphs.all_graphs(load_config(folder))
    buckets = {spec.name: buckets_of(spec, ranges, shared=SHARED_AXES) for spec in specs}
    return GraphModels(graphs.ROOM, specs, buckets, made.path)


if __name__ == "__main__":
    sys.exit(run_repository(graphs.ROOM, find))
