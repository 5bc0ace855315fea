"""The semantic encoder with its codebook as an ONNX file of the public form, written node by node.

    feats [1, 128, T] float32, feats_length [1] int32  ->  indices [about T / 4] int32

A code says where in its 2:3 group it stands: 1024 * (t mod 3) + nearest centroid, so the language models can never lose
the group's phase. Decides: the graph. Refuses to know: training.
"""

from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from services.nano.tokenizers.semantic import SemanticBlock, SemanticNetwork
from services.shared.codec.codebooks import GROUP_SEMANTIC
from services.shared.nn.features import WHISPER_MELS

PHASE_STEP: Final = 1024
"""Codes of one phase lie this far from those of the next."""
_OPSET: Final = 17
_IR_VERSION: Final = 9


def write_onnx(network: SemanticNetwork, centroids: Tensor, path: Path) -> None:
    """Write the file; `centroids` are [K, 24], K <= 1024."""
    graph = _Graph()
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
    onnx.save(graph.model(), str(path))


def _write_codes(graph: "_Graph", rows: str, centroids: Tensor) -> None:
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


class _Graph:
    """Nodes and constants under way; every method adds nodes and returns the name of their result."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: int | float | list[int]) -> str:
        name = output or f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: NDArray[np.generic]) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def weight(self, tensor: Tensor | None) -> str:
        assert tensor is not None
        return self.constant(tensor.detach().float().numpy())

    def conv(self, x: str, conv: nn.Conv1d) -> str:
        padding, stride = int(conv.padding[0]), conv.stride[0]
        attributes = {"strides": [stride], "pads": [padding, padding], "group": conv.groups}
        return self.add("Conv", x, self.weight(conv.weight), self.weight(conv.bias), **attributes)  # type: ignore[arg-type]  # a mapping of mixed attributes

    def linear(self, x: str, linear: nn.Linear) -> str:
        product = self.add("MatMul", x, self.weight(linear.weight.T))
        return self.add("Add", product, self.weight(linear.bias))

    def norm(self, x: str, norm: nn.LayerNorm) -> str:
        return self.add("LayerNormalization", x, self.weight(norm.weight), self.weight(norm.bias), epsilon=norm.eps)

    def swap(self, x: str) -> str:
        return self.add("Transpose", x, perm=[0, 2, 1])

    def gelu(self, x: str) -> str:
        root_half, half, one = (self.constant(np.array(v, np.float32)) for v in (0.5**0.5, 0.5, 1.0))
        error = self.add("Erf", self.add("Mul", x, root_half))
        return self.add("Mul", self.add("Mul", x, half), self.add("Add", error, one))

    def model(self) -> onnx.ModelProto:
        feats = helper.make_tensor_value_info("feats", TensorProto.FLOAT, [1, WHISPER_MELS, "T"])
        length = helper.make_tensor_value_info("feats_length", TensorProto.INT32, [1])
        indices = helper.make_tensor_value_info("indices", TensorProto.INT32, ["R"])
        graph = helper.make_graph(self._nodes, "nano_semantic", [feats, length], [indices], self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        onnx.checker.check_model(model)
        return model
