"""Shape profiles come from axes and their ranges."""

import pytest

from services.shared.errors import InvalidOptionError
from services.shared.graphs.spec import AxisRange, GraphSpec, ShapeProfile, shape_profiles

SPEC = GraphSpec("step", {"state": ("B", 80, "T"), "length": (1,)}, {"next": ("B", 80, "T")})


@pytest.mark.unit
def test_fixed_axes_stay_and_free_ones_take_their_range() -> None:
    profiles = shape_profiles(SPEC, {"B": AxisRange(1, 1, 8), "T": AxisRange(1, 500, 900)})
    assert profiles == {
        "state": ShapeProfile((1, 80, 1), (1, 80, 500), (8, 80, 900)),
        "length": ShapeProfile((1,), (1,), (1,)),
    }


@pytest.mark.unit
def test_an_axis_without_a_range_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="axis T of step"):
        shape_profiles(SPEC, {"B": AxisRange(1, 1, 8)})


@pytest.mark.unit
@pytest.mark.parametrize("lengths", [(0, 1, 2), (2, 1, 3), (1, 3, 2)])
def test_a_range_is_in_order_and_above_zero(lengths: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidOptionError):
        AxisRange(*lengths)
