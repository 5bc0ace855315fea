"""What passes a door, and what is refused there."""

import numpy as np
import pytest

from services.shared.errors import InvalidInputError
from services.shared.triton import MODELS, POOLS, DType, TensorSpec

pytestmark = pytest.mark.unit

MEL = TensorSpec("mel", DType.FP32, (80, -1), "log-mel")
COUNT = TensorSpec("count", DType.INT32, (1,), "a count")


def test_a_value_becomes_a_contiguous_array_of_the_declared_type() -> None:
    fitted = MEL.fit(np.zeros((7, 80)).T)
    assert (fitted.dtype.name, fitted.shape, fitted.flags.c_contiguous) == ("float32", (80, 7), True)
    assert COUNT.fit([3]).dtype.name == "int32"


def test_a_free_dimension_may_be_empty() -> None:
    assert MEL.fit(np.zeros((80, 0), np.float32)).size == 0
    assert TensorSpec("ids", DType.INT32, (-1,), "ids").fit([]).dtype.name == "int32"


@pytest.mark.parametrize("shape", [(79, 3), (80,), (1, 80, 3)])
def test_another_shape_is_refused_with_both_shapes_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match=r"mel has the shape \[.*\], not \[80, N\]"):
        MEL.fit(np.zeros(shape, np.float32))


def test_numbers_that_would_lose_their_fraction_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="count holds float64 values; the model takes INT32"):
        COUNT.fit([1.5])


def test_every_model_belongs_to_a_pool_and_says_what_each_tensor_holds() -> None:
    for model in MODELS:
        assert model.pool in POOLS
        names = [tensor.name for tensor in (*model.inputs, *model.outputs)]
        assert all(tensor.doc for tensor in (*model.inputs, *model.outputs)), names
        assert len({tensor.name for tensor in model.inputs}) == len(model.inputs)
