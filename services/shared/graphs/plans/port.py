"""What is used of TensorRT. `official` is the one implementation; tests have another that computes with ONNX Runtime.

    Compiler   at build time   ONNX bytes + recipe ─> plan bytes;  plan + other weights ─> plan
    Opener     in a room       plan bytes ─> Plan ─> Execution: shapes and addresses bound, work queued on a stream

A plan belongs to the kind of device and the version of TensorRT that it was made with.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from services.shared.graphs.spec import ShapeProfile

Bucket = Mapping[str, ShapeProfile]
"""Input name -> shapes; one range of shapes for which kernels are chosen."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a graph is compiled.

    Attributes:
        buckets: the ranges of shapes, each tuned for its usual ones.
        refittable: whether other weights may take these weights' place.
        workspace_mib: scratch memory that a kernel may ask for.
        effort: TensorRT's optimization level, 0 to 5.
    """

    buckets: tuple[Bucket, ...]
    refittable: bool = False
    workspace_mib: int = 4096
    effort: int = 3


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a compilation gave.

    Attributes:
        plan: as it is kept.
        timings: TensorRT's timing cache afterwards; the next compilation begins with it.
    """

    plan: bytes
    timings: bytes


class Device(Protocol):
    """For what plans are made."""

    @property
    def device(self) -> str:
        """The kind of GPU with its compute capability, as `NVIDIA L20 sm_89`."""

    @property
    def version(self) -> str:
        """Of TensorRT."""


class Compiler(Device, Protocol):
    """Makes plans."""

    def compile(self, model: bytes, recipe: Recipe, timings: bytes) -> Compiled:
        """Compile a strongly typed graph.

        Raises:
            CheckpointError: TensorRT does not take it; the message has the parser's words.
        """

    def refit(self, plan: bytes, model: bytes) -> bytes:
        """The plan with the weights of another graph of the same structure.

        Raises:
            CheckpointError: they do not fit.
        """


class Execution(Protocol):
    """A plan bound to one bucket; used by one thread at a time."""

    def queue(self, addresses: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]], *, stream: int) -> None:
        """Queue one run on a CUDA stream.

        Args:
            addresses: of every input and output on the device.
            shapes: of the inputs.
            stream: as an integer handle.

        Raises:
            ShapeMismatchError: the plan does not take them.
        """


class Plan(Protocol):
    """An open plan."""

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """As it was compiled."""

    @property
    def scratch_bytes(self) -> int:
        """Memory that an execution needs while it runs."""

    def execution(self, bucket: int, scratch: int) -> Execution:
        """A new execution.

        Args:
            bucket: index of its bucket.
            scratch: address of as much memory; executions that never run at the same time may share it.
        """


class Opener(Device, Protocol):
    """Opens plans."""

    def open(self, plan: bytes) -> Plan:
        """Open a plan.

        Raises:
            CorruptFileError: it was made by another version or for another device, or is damaged.
        """
