"""An open plan, run on torch tensors as `GraphSession` runs a graph: all memory is the caller's, nothing is copied.

Work is queued on torch's current stream, so it comes in order with torch's own and nobody waits for the device.

Shapes that come again are captured as a CUDA graph, which starts all kernels of a run at once:

    1st time   queue                               lengths of a growing window come once and never again
    2nd time   queue, then capture into fixed buffers
    3rd time   copy in, replay, copy out

Each captured run has an execution and buffers of its own; only so many are kept, the longest unused one goes. All
executions share one scratch memory: on one stream they never run at the same time.

Source: TensorRT's developer guide, CUDA graphs and dynamic shapes.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import torch
from torch import Tensor

from services.shared.errors import ShapeMismatchError
from services.shared.graphs.plans.buckets import fitting_bucket
from services.shared.graphs.plans.port import Execution, Plan

CAPTURED_AT_MOST: Final = 32
_SEEN_AT_MOST: Final = 512

_Shapes: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]


class Captured(Protocol):
    """Work that was recorded."""

    def replay(self) -> None:
        """Queue all of it again on the current stream."""


class Accelerator(Protocol):
    """What of torch's device a session uses."""

    def stream(self) -> int:
        """Handle of the current stream."""

    def empty(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Memory that stays where it is."""

    def capture(self, work: Callable[[], None]) -> Captured:
        """Record what `work` queues, once it has run uncaptured."""


@dataclass(frozen=True, slots=True, eq=False)
class _Recorded:
    """A captured run and its fixed buffers."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    execution: Execution
    graph: Captured


class PlanSession:
    """One plan, ready to run on one stream.

    Args:
        plan: open.
        name: for messages.
        accelerator: the device's side of torch.
        capture: whether runs are captured.
    """

    def __init__(self, plan: Plan, name: str, accelerator: Accelerator, *, capture: bool = True) -> None:
        self._plan, self._name, self._accelerator = plan, name, accelerator
        self._captures = capture
        scratch_like = torch.empty(0, dtype=torch.uint8)
        self._scratch = accelerator.empty((max(plan.scratch_bytes, 1),), scratch_like)
        self._executions: dict[int, Execution] = {}
        self._seen = OrderedDict[_Shapes, None]()
        self._recorded = OrderedDict[_Shapes, _Recorded]()

    @property
    def captured(self) -> int:
        """Runs that are kept as CUDA graphs."""
        return len(self._recorded)

    def run(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """Queue one run.

        Args:
            inputs: name -> tensor on the device.
            outputs: name -> contiguous tensor there, of the right shape; overwritten. None of them is an input.

        Raises:
            ShapeMismatchError: no bucket of the plan holds these shapes.
        """
        held = {name: tensor.contiguous() for name, tensor in inputs.items()}
        shapes = {name: tuple(tensor.shape) for name, tensor in held.items()}
        bucket = fitting_bucket(self._plan.buckets, shapes)
        if bucket is None:
            raise ShapeMismatchError(f"no bucket of the plan {self._name} holds {shapes}; build it for such lengths")
        key = tuple(shapes.items())
        recorded = self._recorded.get(key)
        if recorded is not None:
            self._recorded.move_to_end(key)
            self._replay(recorded, held, outputs)
            return
        self._queue(self._execution(bucket), held, outputs)
        if self._captures and self._comes_again(key):
            self._record(key, bucket, held, outputs)

    def _execution(self, bucket: int) -> Execution:
        if bucket not in self._executions:
            self._executions[bucket] = self._plan.execution(bucket, self._scratch.data_ptr())
        return self._executions[bucket]

    def _queue(self, execution: Execution, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        addresses = {name: tensor.data_ptr() for name, tensor in {**inputs, **outputs}.items()}
        shapes = {name: tuple(tensor.shape) for name, tensor in inputs.items()}
        execution.queue(addresses, shapes, stream=self._accelerator.stream())

    def _replay(self, recorded: _Recorded, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        for name, tensor in inputs.items():
            recorded.inputs[name].copy_(tensor)
        recorded.graph.replay()
        for name, tensor in outputs.items():
            tensor.copy_(recorded.outputs[name])

    def _comes_again(self, key: _Shapes) -> bool:
        """Whether these shapes were seen before; they are remembered, the oldest ones are forgotten."""
        if key in self._seen:
            return True
        self._seen[key] = None
        if len(self._seen) > _SEEN_AT_MOST:
            self._seen.popitem(last=False)
        return False

    def _record(self, key: _Shapes, bucket: int, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        fixed_in = {name: self._accelerator.empty(tuple(t.shape), t).copy_(t) for name, t in inputs.items()}
        fixed_out = {name: self._accelerator.empty(tuple(t.shape), t) for name, t in outputs.items()}
        execution = self._plan.execution(bucket, self._scratch.data_ptr())
        graph = self._accelerator.capture(lambda: self._queue(execution, fixed_in, fixed_out))
        self._recorded[key] = _Recorded(fixed_in, fixed_out, execution, graph)
        if len(self._recorded) > CAPTURED_AT_MOST:
            self._recorded.popitem(last=False)
