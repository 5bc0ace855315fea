"""Plans in the cache of graphs.

    <cache>/<room>-plans-<key>/           <graph>.plan …, gate.json, manifest.json      as `cache` keeps graphs
    <cache>/timings-<device>-<version>    TensorRT's timing cache: the next build skips kernels that were measured

The key is made of the device's kind, TensorRT's version, the graphs' own key (checkpoint and code, with the shapes) and
the precision: what any of them changes is another folder, so a stale plan is never found.

A second checkpoint of the same structure (the vocoder for music) needs no compilation: its weights are put into the
plans of the first.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx

from services.shared.errors import CheckpointError
from services.shared.graphs.cache import GraphFolder, GraphRecord, Parity, ensure_graphs
from services.shared.graphs.plans.gate import GATE_FILE, Gate
from services.shared.graphs.plans.keys import Precision, plan_file, plans_key, plans_room
from services.shared.graphs.plans.port import Bucket, Compiler, Recipe
from services.shared.graphs.plans.precision import typed_model
from services.shared.graphs.spec import GraphSpec

_UNMEASURED: Final = Parity(0.0, 0.0, 0.0)
"""Of a plan alone: plans are measured together, by the gate."""


@dataclass(frozen=True, slots=True)
class PlanOrder:
    """One graph to compile.

    Attributes:
        spec: the graph.
        precision: of its products.
        buckets: shapes.
        scales: for float8, name of a product's activation -> largest value that was seen.
    """

    spec: GraphSpec
    precision: Precision
    buckets: tuple[Bucket, ...]
    scales: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class PlanPlace:
    """Where a room's plans are kept, and as what.

    Attributes:
        cache: of graphs and plans.
        room: its name.
        graphs_key: of its graphs.
        precision: that was asked for; an order may say a higher one.
    """

    cache: Path
    room: str
    graphs_key: str
    precision: Precision


@dataclass(frozen=True, slots=True)
class Twin:
    """A checkpoint of the same structure whose plans are there: its graphs and its plans."""

    graphs: GraphFolder
    plans: GraphFolder


Measure = Callable[[Mapping[str, bytes]], Gate]
"""Runs the room on plans, by name of graph, beside torch."""


def ensure_plans(
    exported: GraphFolder,
    orders: tuple[PlanOrder, ...],
    compiler: Compiler,
    place: PlanPlace,
    *,
    measure: Measure,
    twin: Twin | None = None,
) -> GraphFolder:
    """The plans of a room's graphs, made if they are absent, out of date or damaged.

    Args:
        exported: the graphs, whole.
        orders: one for each graph.
        compiler: makes the plans.
        place: where they are kept.
        measure: holds what was compiled against torch.
        twin: whose plans take these weights, where the structures are equal.

    Raises:
        CheckpointError: TensorRT does not take a graph, or the room is too far from torch; nothing is kept then.
    """
    timings = place.cache / f"timings-{_plain(compiler.device)}-{_plain(compiler.version)}"

    def build(target: Path) -> Mapping[str, GraphRecord]:
        plans: dict[str, bytes] = {}
        records: dict[str, GraphRecord] = {}
        for order in orders:
            plans[order.spec.name] = _made(exported, order, compiler, timings, twin)
            file = plan_file(order.spec)
            (target / file).write_bytes(plans[order.spec.name])
            records[file] = GraphRecord(_UNMEASURED, order.buckets[-1])
        gate = measure(plans)
        gate.check()
        (target / GATE_FILE).write_text(gate.written(), encoding="utf-8")
        records[GATE_FILE] = GraphRecord(gate.parity(), {})
        return records

    return ensure_graphs(
        place.cache, plans_room(place.room), plans_key(place.graphs_key, compiler, place.precision), build
    )


def structure(model: bytes) -> str:
    """A digest of a graph without the values of its weights."""
    parsed = onnx.load_model_from_string(model)
    for weights in parsed.graph.initializer:
        for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data"):
            if weights.data_type in _FLOATS:
                weights.ClearField(field)
    return hashlib.sha256(parsed.SerializeToString(deterministic=True)).hexdigest()


_FLOATS: Final = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})


def _made(exported: GraphFolder, order: PlanOrder, compiler: Compiler, timings: Path, twin: Twin | None) -> bytes:
    file = order.spec.file
    model = typed_model(exported.read(file), order.precision, scales=order.scales)
    if twin is not None and structure(twin.graphs.read(file)) == structure(exported.read(file)):
        return compiler.refit(twin.plans.read(plan_file(order.spec)), model)
    known = timings.read_bytes() if timings.exists() else b""
    refittable = order.precision != "float8"  # scales are of one checkpoint's activations
    try:
        compiled = compiler.compile(model, Recipe(order.buckets, refittable=refittable), known)
    except CheckpointError as error:
        raise CheckpointError(f"{file} in {order.precision}: {error}") from error
    _replace(timings, compiled.timings)
    return compiled.plan


def _replace(path: Path, content: bytes) -> None:
    """Write whole or not at all: other builders read it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(name).replace(path)


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")
