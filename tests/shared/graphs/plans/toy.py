"""A small graph written by hand, so that plans are tested without an exporter: y = softmax(relu(x W) V), and 2 ids."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from services.shared.graphs.cache import GraphFolder, GraphRecord, Parity, ensure_graphs
from services.shared.graphs.spec import AxisRange, GraphSpec

SPEC = GraphSpec("toy", {"x": ("B", "T", 8), "ids": ("T",)}, {"y": ("B", "T", 8), "doubled": ("T",)})
RANGES = {"B": AxisRange(1, 1, 4), "T": AxisRange(1, 6, 20)}
ROOM, GRAPHS_KEY = "room", "graphs-of-a-checkpoint"


def toy_model(seed: int = 0, *, operator: str = "Relu", largest: float = 1.0) -> bytes:
    """The graph; equal seeds give equal weights."""
    random = np.random.default_rng(seed)
    weights = {name: random.uniform(-largest, largest, (8, 8)).astype(np.float32) for name in ("w", "v")}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["first"]),
        helper.make_node(operator, ["first"], ["mapped"]),
        helper.make_node("MatMul", ["mapped", "v"], ["second"]),
        helper.make_node("Softmax", ["second"], ["y"], axis=-1),
        helper.make_node("Add", ["ids", "ids"], ["doubled"]),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", "T", 8]),
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["T"]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", "T", 8]),
            helper.make_tensor_value_info("doubled", TensorProto.INT64, ["T"]),
        ],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def exported(cache: Path, seed: int = 0, *, key: str = GRAPHS_KEY) -> GraphFolder:
    """The graph in a cache of graphs."""

    def build(target: Path) -> dict[str, GraphRecord]:
        (target / SPEC.file).write_bytes(toy_model(seed))
        return {SPEC.file: GraphRecord(Parity(0.0, 0.0, 1.0), {})}

    return ensure_graphs(cache, ROOM, key, build)


def types_of(content: bytes) -> dict[str, int]:
    """Element type of every value of a graph, as ONNX's own rules infer it."""
    inferred = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(content), strict_mode=True)
    values = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}
