"""What a graph takes and gives, as data: names and axes, and the range of every axis that is free.

Ranges matter to engines that are compiled ahead (TensorRT): they come from the room's schedule and are only data here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from services.shared.errors import InvalidOptionError
from services.shared.triton.tensors import ANY, DType, ModelKind, ModelSpec, TensorSpec

Axes: TypeAlias = tuple[int | str, ...]
"""A tensor's shape: a number is fixed, a name is free; equal names are equal lengths."""


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """One graph.

    Attributes:
        name: of its file, without `.onnx`.
        inputs: name -> axes, in order.
        outputs: name -> axes, in order.
        types: of the tensors that are not FP32.
    """

    name: str
    inputs: Mapping[str, Axes]
    outputs: Mapping[str, Axes]
    types: Mapping[str, DType] = field(default_factory=dict)

    def model(self, pool: str) -> ModelSpec:
        """The graph as a Triton model of its own: every dimension on the wire, free ones without their names."""

        def tensors(of: Mapping[str, Axes]) -> tuple[TensorSpec, ...]:
            return tuple(
                TensorSpec(
                    name,
                    self.types.get(name, DType.FP32),
                    tuple(ANY if isinstance(axis, str) else axis for axis in axes),
                    "[" + ", ".join(map(str, axes)) + "]",
                )
                for name, axes in of.items()
            )

        doc = f"The graph {self.name} of the {pool}."
        return ModelSpec(self.name, pool, ModelKind.SINGLE, doc, tensors(self.inputs), tensors(self.outputs))

    @property
    def file(self) -> str:
        """Its file's name."""
        return f"{self.name}.onnx"


@dataclass(frozen=True, slots=True)
class AxisRange:
    """Shortest, most usual and longest length of a free axis.

    Raises:
        InvalidOptionError: they are not in order, or not above 0.
    """

    least: int
    usual: int
    most: int

    def __post_init__(self) -> None:
        if not 0 < self.least <= self.usual <= self.most:
            raise InvalidOptionError(f"an axis has lengths in order and above 0, not {self}")


@dataclass(frozen=True, slots=True)
class ShapeProfile:
    """The shapes of one input for which an engine is compiled: shortest, usual, longest."""

    least: tuple[int, ...]
    usual: tuple[int, ...]
    most: tuple[int, ...]


def shape_profiles(spec: GraphSpec, ranges: Mapping[str, AxisRange]) -> dict[str, ShapeProfile]:
    """The profile of each input of a graph.

    Args:
        spec: of the graph.
        ranges: of every free axis that its inputs name.

    Raises:
        InvalidOptionError: an axis has no range.
    """
    profiles = {}
    for name, axes in spec.inputs.items():
        missing = [axis for axis in axes if isinstance(axis, str) and axis not in ranges]
        if missing:
            raise InvalidOptionError(f"the axis {missing[0]} of {spec.name} has no range")
        spans = [ranges[axis] if isinstance(axis, str) else AxisRange(axis, axis, axis) for axis in axes]
        profiles[name] = ShapeProfile(
            tuple(span.least for span in spans), tuple(span.usual for span in spans), tuple(span.most for span in spans)
        )
    return profiles
