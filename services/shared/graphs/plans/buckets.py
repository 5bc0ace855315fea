"""Which shapes a plan is compiled for: ranges of one stream, and of several.

TensorRT chooses kernels for the usual shapes of a range. One listener alone is the usual case and its first chunk is
what is waited for, so a range of its own is tuned for it; the streams that share a pass have another.

    B         1          2 ─────── usual: half of the most ─────── most
    bucket    alone      shared
"""

from collections.abc import Mapping, Sequence

from services.shared.graphs.plans.port import Bucket
from services.shared.graphs.spec import AxisRange, GraphSpec, shape_profiles


def buckets_of(spec: GraphSpec, ranges: Mapping[str, AxisRange], *, shared: Mapping[str, int]) -> tuple[Bucket, ...]:
    """The buckets of a graph.

    Args:
        spec: the graph.
        ranges: of every free axis that its inputs name.
        shared: axis that counts callers -> its rows for each; the graph's other axes have one range in all buckets.

    Raises:
        InvalidOptionError: an axis has no range.
    """
    named = {axis for axes in spec.inputs.values() for axis in axes if isinstance(axis, str)}
    counting = {axis: rows for axis, rows in shared.items() if axis in named}
    if not counting or all(ranges[axis].most <= rows for axis, rows in counting.items()):
        return (shape_profiles(spec, ranges),)
    alone = {axis: AxisRange(rows, rows, rows) for axis, rows in counting.items()}
    several = {axis: _several(ranges[axis].most, rows) for axis, rows in counting.items()}
    return shape_profiles(spec, {**ranges, **alone}), shape_profiles(spec, {**ranges, **several})


def fitting_bucket(buckets: Sequence[Bucket], shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """The first bucket that holds shapes of all inputs; None if there is none."""
    for index, bucket in enumerate(buckets):
        if all(_within(bucket[name].least, shape, bucket[name].most) for name, shape in shapes.items()):
            return index
    return None


def _several(most: int, rows: int) -> AxisRange:
    callers = most // rows
    return AxisRange(2 * rows, max(2, callers // 2) * rows, most)


def _within(least: Sequence[int], shape: Sequence[int], most: Sequence[int]) -> bool:
    return len(least) == len(shape) and all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))
