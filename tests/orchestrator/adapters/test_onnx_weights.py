"""Weights are found in an ONNX file without a runtime, and what is no such file is refused."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from services.orchestrator.adapters.onnx_weights import read_weights

NUMBERS = np.arange(6, dtype=np.float32).reshape(2, 3)


def constant(name: str, numbers: np.ndarray) -> onnx.NodeProto:  # type: ignore[type-arg]  # of any kind of number
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(numbers))


def model(*nodes: onnx.NodeProto) -> bytes:
    given = helper.make_tensor_value_info("given", TensorProto.FLOAT, [1])
    data: bytes = helper.make_model(helper.make_graph(nodes, "graph", [given], [])).SerializeToString()
    return data


@pytest.mark.unit
def test_constants_are_found_by_the_name_of_what_they_give() -> None:
    found = read_weights(model(constant("first", NUMBERS), constant("second", NUMBERS[0])))
    assert found.keys() == {"first", "second"}
    assert np.array_equal(found["first"], NUMBERS)
    assert np.array_equal(found["second"], NUMBERS[0])
    assert found["first"].dtype == np.float32


@pytest.mark.unit
def test_those_of_a_branch_are_found_too() -> None:
    branch = helper.make_graph([constant("inside", NUMBERS)], "branch", [], [])
    choice = helper.make_node("If", ["given"], ["out"], then_branch=branch, else_branch=branch)
    assert np.array_equal(read_weights(model(choice))["inside"], NUMBERS)


@pytest.mark.unit
def test_other_numbers_and_other_operators_are_no_weights() -> None:
    whole = constant("whole", np.arange(3))
    sum_of = helper.make_node("Add", ["given", "given"], ["sum"])
    assert read_weights(model(whole, sum_of)) == {}


@pytest.mark.unit
@pytest.mark.parametrize("data", [b"\x3a\x7f", b"\xff" * 20, b"\x3b", b"\x3a"])
def test_what_is_no_such_file_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"field|number"):
        read_weights(data)


@pytest.mark.unit
def test_a_file_that_is_cut_short_is_refused() -> None:
    data = model(constant("first", NUMBERS))
    with pytest.raises(ValueError, match=r"field|number"):
        read_weights(data[:-3])
