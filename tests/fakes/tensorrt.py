"""TensorRT without a GPU: the port of plans, computed by ONNX Runtime on the CPU.

A plan is a line of JSON (version, device, buckets, whether it takes other weights) and the ONNX graph. Executions read
and write memory at the addresses they are given, as the real ones do. Work that is queued runs at once; work that is
captured runs at each replay.
"""

import ctypes
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.shared.errors import CheckpointError, CorruptFileError, ShapeMismatchError
from services.shared.graphs.plans.buckets import fitting_bucket
from services.shared.graphs.plans.port import Bucket, Compiled, Recipe
from services.shared.graphs.spec import ShapeProfile


class FakeTensorRt:
    """Compiler and opener.

    Attributes:
        compiled: recipes, in order.
        known_timings: what each compilation was given.
        refits: how many plans took other weights.
        spoil: changes the graph that is compiled, as a careless compiler would.
    """

    def __init__(self, *, device: str = "Fake L20 sm_89", version: str = "10.9.0") -> None:
        self.device, self.version = device, version
        self.compiled: list[Recipe] = []
        self.known_timings: list[bytes] = []
        self.refits = 0
        self.spoil: Callable[[bytes], bytes] = lambda model: model

    def compile(self, model: bytes, recipe: Recipe, timings: bytes) -> Compiled:
        self.compiled.append(recipe)
        self.known_timings.append(timings)
        return Compiled(self._plan(self.spoil(model), recipe), timings + b"t")

    def refit(self, plan: bytes, model: bytes) -> bytes:
        header, _ = _split(plan)
        if not header["refittable"]:
            raise CheckpointError("the plan takes no other weights")
        self.refits += 1
        return json.dumps(header).encode() + b"\n" + model

    def open(self, plan: bytes) -> "FakePlan":
        header, model = _split(plan)
        if (header["device"], header["version"]) != (self.device, self.version):
            raise CorruptFileError("made by another version or for another device")
        return FakePlan(header, model)

    def _plan(self, model: bytes, recipe: Recipe) -> bytes:
        buckets = [
            {name: [profile.least, profile.usual, profile.most] for name, profile in bucket.items()}
            for bucket in recipe.buckets
        ]
        header = {"device": self.device, "version": self.version, "buckets": buckets, "refittable": recipe.refittable}
        return json.dumps(header).encode() + b"\n" + model


class FakePlan:
    """An open plan. Attributes: executions: how many were made."""

    scratch_bytes = 64

    def __init__(self, header: Mapping[str, Any], model: bytes) -> None:
        self.buckets: tuple[Bucket, ...] = tuple(
            {name: ShapeProfile(*(tuple(shape) for shape in shapes)) for name, shapes in bucket.items()}
            for bucket in header["buckets"]
        )
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session: Any = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.executions = 0
        self.scratches: set[int] = set()

    def execution(self, bucket: int, scratch: int) -> "FakeExecution":
        self.executions += 1
        self.scratches.add(scratch)
        return FakeExecution(self, bucket)


class FakeExecution:
    """Bound to one bucket. Attributes: runs: how often it ran."""

    def __init__(self, plan: FakePlan, bucket: int) -> None:
        self._plan, self._bucket = plan, bucket
        self.runs = 0

    def queue(self, addresses: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]], *, stream: int) -> None:
        if fitting_bucket([self._plan.buckets[self._bucket]], shapes) is None:
            raise ShapeMismatchError("outside the bucket")
        self.runs += 1
        session = self._plan.session
        kinds = {value.name: value.type for value in session.get_inputs()}
        inputs = {name: _read(addresses[name], shapes[name], _KINDS[kinds[name]]) for name in kinds}
        for value, result in zip(session.get_outputs(), session.run(None, inputs), strict=True):
            ctypes.memmove(addresses[value.name], np.ascontiguousarray(result).ctypes.data, result.nbytes)


class FakeAccelerator:
    """Torch's side on the CPU. Attributes: captures: how many runs were recorded; replays: how many were repeated."""

    def __init__(self) -> None:
        self.captures = self.replays = 0

    def stream(self) -> int:
        return 7

    def empty(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        return torch.empty(shape, dtype=like.dtype)

    def capture(self, work: Callable[[], None]) -> "FakeGraph":
        self.captures += 1
        return FakeGraph(self, work)


class FakeGraph:
    """Recorded work, which has not run."""

    def __init__(self, accelerator: FakeAccelerator, work: Callable[[], None]) -> None:
        self._accelerator, self._work = accelerator, work

    def replay(self) -> None:
        self._accelerator.replays += 1
        self._work()


_KINDS = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}


def _read(address: int, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    return np.frombuffer(ctypes.string_at(address, size), kind).reshape(shape)


def _split(plan: bytes) -> tuple[dict[str, Any], bytes]:
    header, newline, model = plan.partition(b"\n")
    if not newline:
        raise CorruptFileError("no plan")
    return json.loads(header), model


def louder(model: bytes) -> bytes:
    """The graph with its first matrix or kernel three times as large: what a wrong kernel would do."""
    parsed = onnx.load_model_from_string(model)
    weights = next(w for w in parsed.graph.initializer if len(w.dims) > 1 and w.data_type == onnx.TensorProto.FLOAT)
    values = 3 * onnx.numpy_helper.to_array(weights)
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    return bytes(parsed.SerializeToString())
