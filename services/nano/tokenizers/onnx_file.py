"""The semantic encoder with its codebook as an ONNX file of the public form, written node by node.

    feats [1, 128, T] float32, feats_length [1] int32  ->  indices [about T / 4] int32

A code says where in its 2:3 group it stands: 1024 * (t mod 3) + nearest centroid, so the language models can never lose
the group's phase. Decides: the graph. Refuses to know: training.
"""

from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper
from torch import Tensor

from services.nano.tokenizers.semantic import SemanticBlock, SemanticNetwork
from services.nano.training.onnx_graph import OnnxGraph
from services.shared.codec.codebooks import GROUP_SEMANTIC
from services.shared.nn.features import WHISPER_MELS

PHASE_STEP: Final = 1024
"""Codes of one phase lie this far from those of the next."""


def write_onnx(network: SemanticNetwork, centroids: Tensor, path: Path) -> None:
    """Write the file; `centroids` are [K, 24], K <= 1024."""
    graph = OnnxGraph()
    x = "feats"
    for conv in (network.conv1, network.conv2):
        x = graph.gelu(graph.conv(x, conv))
    for block in network.blocks:
        assert isinstance(block, SemanticBlock)
        rows = graph.norm(graph.swap(graph.conv(x, block.depthwise)), block.norm)
        rows = graph.linear(graph.gelu(graph.linear(rows, block.widen)), block.narrow)
        x = graph.add("Add", x, graph.swap(rows))
    rows = graph.add("Tanh", graph.linear(graph.norm(graph.swap(x), network.norm), network.project))
    _write_codes(graph, graph.add("Squeeze", rows, graph.constant(np.array([0]))), centroids)
    feats = helper.make_tensor_value_info("feats", TensorProto.FLOAT, [1, WHISPER_MELS, "T"])
    length = helper.make_tensor_value_info("feats_length", TensorProto.INT32, [1])
    indices = helper.make_tensor_value_info("indices", TensorProto.INT32, ["R"])
    onnx.save(graph.model("nano_semantic", [feats, length], [indices]), str(path))


def _write_codes(graph: OnnxGraph, rows: str, centroids: Tensor) -> None:
    """rows [R, 24] -> "indices": nearest centroid, phase added."""
    values = centroids.detach().double().numpy()
    half_norms = (values**2).sum(1) / 2
    products = graph.add("MatMul", rows, graph.constant(values.T.astype(np.float32)))
    scores = graph.add("Sub", graph.constant(half_norms.astype(np.float32)), products)
    nearest = graph.add("ArgMin", scores, axis=1, keepdims=0)
    zero, one = graph.constant(np.array(0)), graph.constant(np.array(1))
    count = graph.add("Gather", graph.add("Shape", nearest), zero, axis=0)
    phase = graph.add("Mod", graph.add("Range", zero, count, one), graph.constant(np.array(GROUP_SEMANTIC)))
    codes = graph.add("Add", nearest, graph.add("Mul", phase, graph.constant(np.array(PHASE_STEP))))
    # The length is an input of the public form; a piece is never padded, so it adds nothing.
    nothing = graph.add("Mul", graph.add("Cast", "feats_length", to=TensorProto.INT64), zero)
    graph.add("Cast", graph.add("Add", codes, nothing), to=TensorProto.INT32, output="indices")
