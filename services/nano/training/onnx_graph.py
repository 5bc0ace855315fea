"""ONNX files written node by node, so that they hold exactly the nodes that are meant and need no tracing.

Decides: operator set and names. Refuses to know: which network is written.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor, nn

_OPSET: Final = 17
_IR_VERSION: Final = 9


class OnnxGraph:
    """Nodes and constants under way; every method adds nodes and returns the name of their result."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: float | list[int]) -> str:
        """Add a node."""
        name = output or f"n{len(self._nodes)}"
        node = helper.make_node(kind, list(inputs), [name], name=name)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self._nodes.append(node)
        return name

    def constant(self, value: NDArray[np.generic]) -> str:
        """Add a constant."""
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def weight(self, tensor: Tensor | None) -> str:
        """Add a parameter as a constant."""
        assert tensor is not None
        return self.constant(tensor.detach().float().numpy())

    def conv(self, x: str, conv: nn.Conv1d) -> str:
        """A convolution over [B, C, T]."""
        padding = int(conv.padding[0])
        return self.add(
            "Conv",
            x,
            self.weight(conv.weight),
            self.weight(conv.bias),
            strides=[conv.stride[0]],
            pads=[padding, padding],
            group=conv.groups,
        )

    def linear(self, x: str, linear: nn.Linear) -> str:
        """A linear layer over the last axis."""
        product = self.add("MatMul", x, self.weight(linear.weight.T))
        return self.add("Add", product, self.weight(linear.bias))

    def norm(self, x: str, norm: nn.LayerNorm) -> str:
        """A norm over the last axis."""
        return self.add("LayerNormalization", x, self.weight(norm.weight), self.weight(norm.bias), epsilon=norm.eps)

    def swap(self, x: str) -> str:
        """Swap the last two of three axes."""
        return self.add("Transpose", x, perm=[0, 2, 1])

    def gelu(self, x: str) -> str:
        """The exact GELU."""
        root_half, half, one = (self.constant(np.array(v, np.float32)) for v in (0.5**0.5, 0.5, 1.0))
        error = self.add("Erf", self.add("Mul", x, root_half))
        return self.add("Mul", self.add("Mul", x, half), self.add("Add", error, one))

    def model(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """The checked model of all nodes so far."""
        graph = helper.make_graph(self._nodes, name, list(inputs), list(outputs), self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        onnx.checker.check_model(model)
        return model
