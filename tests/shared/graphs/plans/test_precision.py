"""A graph's types are what a strongly typed network needs, and its numbers stay near."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto

from services.shared.errors import CheckpointError
from services.shared.graphs.plans.keys import Precision
from services.shared.graphs.plans.precision import OPSETS, check_operators, typed_model
from services.shared.graphs.plans.scales import activation_scales
from tests.shared.graphs.plans.toy import toy_model, types_of

pytestmark = pytest.mark.unit

LOW = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
X = np.random.default_rng(1).standard_normal((2, 5, 8)).astype(np.float32)
IDS = np.arange(5)


def outputs(content: bytes) -> list[NDArray[np.float32]]:
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": X, "ids": IDS}))


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_products_are_low_and_sums_of_exponentials_are_float32(precision: Precision) -> None:
    typed = typed_model(toy_model(), precision)
    types = types_of(typed)
    assert (types["first"], types["mapped"], types["second"]) == (LOW[precision],) * 3
    assert (types["x"], types["y"]) == (TensorProto.FLOAT,) * 2
    assert (types["ids"], types["doubled"]) == (TensorProto.INT64,) * 2
    assert onnx.load_model_from_string(typed).opset_import[0].version == OPSETS[precision]


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_weights_are_stored_in_the_type_they_are_used_in(precision: Precision) -> None:
    graph = onnx.load_model_from_string(typed_model(toy_model(), precision)).graph
    assert {weights.data_type for weights in graph.initializer} == {LOW[precision]}
    assert sum(node.op_type == "Cast" for node in graph.node) == 2


def test_float16_is_near_float32() -> None:
    (expected, _), (actual, doubled) = outputs(toy_model()), outputs(typed_model(toy_model(), "float16"))
    assert 0 < np.abs(actual - expected).max() < 2e-3
    assert doubled.tolist() == (2 * IDS).tolist()


def test_float8_takes_both_sides_of_a_product_and_is_near_enough() -> None:
    scales = activation_scales(toy_model(), [{"x": torch.from_numpy(X), "ids": torch.from_numpy(IDS)}])
    assert scales["x"] == pytest.approx(np.abs(X).max())
    typed = typed_model(toy_model(), "float8", scales=scales)
    graph = onnx.load_model_from_string(typed).graph
    coded = [weights for weights in graph.initializer if weights.name in ("w/coded", "v/coded")]
    assert {weights.data_type for weights in coded} == {TensorProto.FLOAT8E4M3FN}
    assert sum(node.op_type == "QuantizeLinear" for node in graph.node) == 2
    assert 2e-3 < np.abs(outputs(typed)[0] - outputs(toy_model())[0]).max() < 0.1


def test_float8_leaves_a_product_whose_activation_was_not_measured() -> None:
    typed = typed_model(toy_model(), "float8", scales={"x": 3.0})
    graph = onnx.load_model_from_string(typed).graph
    assert sum(node.op_type == "QuantizeLinear" for node in graph.node) == 1


def test_float32_changes_nothing() -> None:
    assert typed_model(toy_model(), "float32") == toy_model()


def test_an_operator_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(CheckpointError, match="Celu"):
        typed_model(toy_model(operator="Celu"), "float32")
    model = onnx.load_model_from_string(toy_model())
    model.graph.node[0].domain = "com.example"
    with pytest.raises(CheckpointError, match=r"com\.example\.MatMul"):
        check_operators(model)


def test_a_weight_that_float16_cannot_hold_is_refused_by_name() -> None:
    with pytest.raises(CheckpointError, match=r"the weight w reaches"):
        typed_model(toy_model(largest=1e6), "float16")
    typed_model(toy_model(largest=1e6), "bfloat16")
