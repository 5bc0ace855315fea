"""Shapes for which plans are compiled."""

import pytest

from services.shared.errors import InvalidOptionError
from services.shared.graphs.plans.buckets import buckets_of, fitting_bucket
from services.shared.graphs.spec import AxisRange, GraphSpec
from tests.shared.graphs.plans.toy import RANGES, SPEC

pytestmark = pytest.mark.unit


def test_one_stream_has_a_bucket_of_its_own_and_the_others_share_one() -> None:
    alone, shared = buckets_of(SPEC, RANGES, shared={"B": 1})
    assert (alone["x"].least, alone["x"].usual, alone["x"].most) == ((1, 1, 8), (1, 6, 8), (1, 20, 8))
    assert (shared["x"].least, shared["x"].usual, shared["x"].most) == ((2, 1, 8), (2, 6, 8), (4, 20, 8))
    assert alone["ids"] == shared["ids"]


def test_axes_that_count_streams_in_several_rows_grow_together() -> None:
    spec = GraphSpec("pairs", {"x": ("B", "T"), "pairs": ("2B", "T")}, {})
    ranges = {"B": AxisRange(1, 1, 8), "2B": AxisRange(2, 2, 16), "T": AxisRange(1, 2, 3)}
    alone, shared = buckets_of(spec, ranges, shared={"B": 1, "2B": 2})
    assert (alone["pairs"].least[0], alone["pairs"].most[0]) == (2, 2)
    assert (shared["x"].usual[0], shared["pairs"].usual[0]) == (4, 8)
    assert (shared["pairs"].least[0], shared["pairs"].most[0]) == (4, 16)


def test_a_graph_of_one_stream_has_one_bucket() -> None:
    spec = GraphSpec("single", {"ids": (1, "T")}, {})
    assert len(buckets_of(spec, RANGES, shared={"B": 1})) == 1
    assert len(buckets_of(SPEC, {**RANGES, "B": AxisRange(1, 1, 1)}, shared={"B": 1})) == 1


def test_the_first_bucket_that_holds_all_shapes_is_taken() -> None:
    buckets = buckets_of(SPEC, RANGES, shared={"B": 1})
    assert fitting_bucket(buckets, {"x": (1, 20, 8), "ids": (20,)}) == 0
    assert fitting_bucket(buckets, {"x": (2, 1, 8), "ids": (1,)}) == 1
    for outside in ((5, 1, 8), (1, 21, 8), (1, 1, 9), (1, 8)):
        assert fitting_bucket(buckets, {"x": outside, "ids": (1,)}) is None


def test_an_axis_without_a_range_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="T of toy"):
        buckets_of(SPEC, {"B": AxisRange(1, 1, 1)}, shared={"B": 1})
