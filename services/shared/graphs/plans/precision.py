"""A float32 graph with the types of a strongly typed network: TensorRT then computes in exactly these and chooses none.

    products (MatMul, Conv …)      in the low type: they are where the time goes, and their sums are wide inside anyway
    sums of many, exponentials …   in float32
    all else                       in float32 where a float32 value comes in, else in the low type

Inputs and outputs of the graph stay float32, so a room notices nothing. Weights are stored in the type of their use.
With float8, products with constant matrices take both sides in E4M3: matrices with a scale for each column, activations
with one scale that was measured (`scales`); all other products are float16.

Decides types and refuses what TensorRT's parser does not know. It needs no TensorRT: what it writes is checked with
ONNX's own type rules, and float16 and float8 graphs run in ONNX Runtime on a CPU.

Source: ONNX operators; onnx-tensorrt's list of supported operators; TensorRT's developer guide on strongly typed
networks and on explicit quantization.
"""

from collections.abc import Mapping
from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from services.shared.errors import CheckpointError
from services.shared.graphs.plans.keys import Precision

OPSETS: Final[Mapping[str, int]] = {"float16": 18, "bfloat16": 22, "float8": 21}
"""The first opset whose operators take the type; float16 keeps the one of the export."""
FLOAT8_MOST: Final = 448.0
"""Largest value of E4M3."""

_PRODUCTS: Final = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})
_WIDE: Final = frozenset(
    {"Softmax", "LayerNormalization", "InstanceNormalization", "Exp", "Log", "Pow", "Sqrt", "Reciprocal", "Range"}
    | {"Sin", "Cos", "ReduceSum", "ReduceMean", "CumSum"}
)
_MOVED_AND_MAPPED: Final = frozenset(
    {"Abs", "Add", "Cast", "Clip", "Concat", "Constant", "Div", "Elu", "Equal", "Erf", "Expand", "Flatten", "Gather"}
    | {"Greater", "Identity", "IsNaN", "LeakyRelu", "Less", "Max", "Min", "Mul", "Neg", "Not", "Pad", "Relu", "Reshape"}
    | {"Shape", "Sigmoid", "Slice", "Split", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Where"}
)
OPERATORS: Final = _PRODUCTS | _WIDE | _MOVED_AND_MAPPED
"""What a graph may hold: the operators that are handled here, all of which TensorRT's parser takes."""

_FLOAT: Final[int] = TensorProto.FLOAT
_LOW: Final[Mapping[str, int]] = {
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float8": TensorProto.FLOAT16,
}
_ARRAYS: Final[Mapping[int, np.dtype[Any]]] = {
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
}


def typed_model(content: bytes, precision: Precision, *, scales: Mapping[str, float] | None = None) -> bytes:
    """The graph in a precision.

    Args:
        content: an exported graph, in float32.
        precision: of products.
        scales: with float8, activation -> largest value seen; products whose activation is absent stay float16.

    Raises:
        CheckpointError: it holds an operator that is not known here, or a weight that the type cannot hold.
    """
    model = onnx.load_model_from_string(content)
    check_operators(model)
    if precision == "float32":
        return content
    opset = max(OPSETS[precision], max(entry.version for entry in model.opset_import))
    if opset != model.opset_import[0].version:
        model = onnx.version_converter.convert_version(model, opset)
    typed = _Typing(model, precision, scales or {}).run()
    onnx.checker.check_model(typed, full_check=True)
    return bytes(typed.SerializeToString())


def check_operators(model: onnx.ModelProto) -> None:
    """Raise CheckpointError where a graph holds what is not in `OPERATORS`, or is of no standard domain."""
    unknown = {f"{node.domain}.{node.op_type}".lstrip(".") for node in model.graph.node if not _is_known(node)}
    if unknown:
        raise CheckpointError(f"the graph holds {', '.join(sorted(unknown))}, which plans are not made of")


def _is_known(node: onnx.NodeProto) -> bool:
    return node.op_type in OPERATORS and node.domain == ""


class _Typing:
    """One rewriting of one graph, node after node."""

    def __init__(self, model: onnx.ModelProto, precision: Precision, scales: Mapping[str, float]) -> None:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        graph = inferred.graph
        self._model = model
        self._low = _LOW[precision]
        self._scales = scales if precision == "float8" else {}
        self._weights = {weights.name: weights for weights in model.graph.initializer}
        values = (*graph.input, *graph.value_info, *graph.output)
        self._floats = {value.name for value in values if value.type.tensor_type.elem_type == _FLOAT}
        self._floats |= {name for name, weights in self._weights.items() if weights.data_type == _FLOAT}
        self._types: dict[str, int] = {value.name: _FLOAT for value in graph.input}
        self._nodes: list[onnx.NodeProto] = []
        self._made: dict[str, TensorProto] = {}
        self._cast: dict[tuple[str, int], str] = {}

    def run(self) -> onnx.ModelProto:
        """The rewritten model."""
        graph = self._model.graph
        outputs = {value.name for value in graph.output} & self._floats
        for node in graph.node:
            self._rewrite(node)
        for name in sorted(outputs):
            if self._types[name] != _FLOAT:
                self._restore(name)
        used = {name for node in self._nodes for name in node.input}
        del graph.node[:]
        graph.node.extend(self._nodes)
        del graph.value_info[:]
        kept = [weights for weights in graph.initializer if weights.name in used]
        del graph.initializer[:]
        graph.initializer.extend([*kept, *(self._made[name] for name in self._made if name in used)])
        return self._model

    def _rewrite(self, node: onnx.NodeProto) -> None:
        if node.op_type in ("Shape", "Cast", "Constant"):  # they take any type, and what they give is written in them
            self._append(node, _FLOAT)
            return
        wanted = self._type_of(node)
        if node.op_type == "MatMul" and self._is_quantized(node):
            inputs = [self._quantized_activation(node.input[0]), self._quantized_weights(node.input[1])]
        else:
            inputs = [self._in(name, wanted) if name in self._floats else name for name in node.input]
        changed = onnx.NodeProto()
        changed.CopyFrom(node)
        changed.input[:] = inputs
        self._append(changed, wanted)

    def _append(self, node: onnx.NodeProto, kind: int) -> None:
        self._nodes.append(node)
        self._types.update({name: kind for name in node.output if name in self._floats})

    def _type_of(self, node: onnx.NodeProto) -> int:
        if node.op_type in _PRODUCTS:
            return self._low
        if node.op_type in _WIDE:
            return _FLOAT
        computed = [self._types[name] for name in node.input if name in self._floats and name not in self._weights]
        return self._low if computed and _FLOAT not in computed else _FLOAT

    def _in(self, name: str, kind: int) -> str:
        """The tensor in this type: itself, a converted weight, or a cast."""
        if name in self._weights:
            return name if kind == _FLOAT else self._converted(name, kind)
        if self._types[name] == kind:
            return name
        key = name, kind
        if key not in self._cast:
            self._cast[key] = f"{name}/as_{kind}"
            self._nodes.append(helper.make_node("Cast", [name], [self._cast[key]], to=kind))
        return self._cast[key]

    def _converted(self, name: str, kind: int) -> str:
        converted = f"{name}/as_{kind}"
        if converted not in self._made:
            values = numpy_helper.to_array(self._weights[name])
            with np.errstate(over="ignore"):
                low = values.astype(_ARRAYS[kind])
            if not np.isfinite(low.astype(np.float32)).all():
                raise CheckpointError(f"the weight {name} reaches {np.abs(values).max():.3g}, too much for the type")
            self._keep(converted, low)
        return converted

    def _keep(self, name: str, values: NDArray[Any]) -> str:
        self._made[name] = numpy_helper.from_array(values, name)
        return name

    def _restore(self, name: str) -> None:
        """Give an output of the graph its own type again."""
        low = f"{name}/low"
        for node in self._nodes:
            node.input[:] = [low if other == name else other for other in node.input]
            node.output[:] = [low if other == name else other for other in node.output]
        self._nodes.append(helper.make_node("Cast", [low], [name], to=_FLOAT))

    def _is_quantized(self, node: onnx.NodeProto) -> bool:
        activation, matrix = node.input
        return activation in self._scales and matrix in self._weights and len(self._weights[matrix].dims) == 2

    def _quantized_activation(self, name: str) -> str:
        result = f"{name}/float8"
        if result not in self._types:
            scale = self._keep(f"{name}/scale", np.array(self._scales[name] / FLOAT8_MOST, np.float16))
            zero = self._keep(f"{name}/zero", np.zeros((), ml_dtypes.float8_e4m3fn))
            low, coded = self._in(name, self._low), f"{name}/coded"
            self._nodes.append(helper.make_node("QuantizeLinear", [low, scale, zero], [coded]))
            self._nodes.append(helper.make_node("DequantizeLinear", [coded, scale, zero], [result]))
            self._types[result] = self._low
        return result

    def _quantized_weights(self, name: str) -> str:
        result = f"{name}/float8"
        if result not in self._types:
            values = numpy_helper.to_array(self._weights[name])
            scales = np.maximum(np.abs(values).max(axis=0) / FLOAT8_MOST, 1e-6).astype(np.float16)
            coded = self._keep(f"{name}/coded", (values / scales.astype(np.float32)).astype(ml_dtypes.float8_e4m3fn))
            scale = self._keep(f"{name}/scale", scales)
            zero = self._keep(f"{name}/zero", np.zeros(scales.shape, ml_dtypes.float8_e4m3fn))
            self._nodes.append(helper.make_node("DequantizeLinear", [coded, scale, zero], [result], axis=1))
            self._types[result] = self._low
        return result
