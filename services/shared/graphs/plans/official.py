"""The port by NVIDIA's package `tensorrt`, 10.8 or later; the only module that imports it.

Source: TensorRT's Python API reference. Needs a CUDA device from its first call on.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import tensorrt as trt
import torch

from services.shared.errors import CheckpointError, CorruptFileError, ShapeMismatchError
from services.shared.graphs.plans.port import Bucket, Compiled, Execution, Plan, Recipe
from services.shared.graphs.spec import ShapeProfile

_MIB: Final = 2**20


class OfficialTensorRt:
    """Compiler and opener on one CUDA device.

    Args:
        device: as torch names it.
    """

    def __init__(self, device: torch.device) -> None:
        properties = torch.cuda.get_device_properties(device)
        self.device = f"{properties.name} sm_{properties.major}{properties.minor}"
        self.version = str(trt.__version__)
        self._torch_device = device
        self._log = trt.Logger(trt.Logger.WARNING)
        self._runtime = trt.Runtime(self._log)

    def compile(self, model: bytes, recipe: Recipe, timings: bytes) -> Compiled:
        """See `Compiler`."""
        with torch.cuda.device(self._torch_device):
            builder = trt.Builder(self._log)
            network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
            parser = trt.OnnxParser(network, self._log)
            if not parser.parse(model):
                raise CheckpointError(f"TensorRT does not take the graph: {_errors(parser)}")
            config = builder.create_builder_config()
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.workspace_mib * _MIB)
            config.builder_optimization_level = recipe.effort
            if recipe.refittable:
                config.set_flag(trt.BuilderFlag.REFIT)
            config.set_timing_cache(config.create_timing_cache(timings), ignore_mismatch=False)
            for bucket in recipe.buckets:
                profile = builder.create_optimization_profile()
                for name, shapes in bucket.items():
                    profile.set_shape(name, shapes.least, shapes.usual, shapes.most)
                config.add_optimization_profile(profile)
            plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise CheckpointError("TensorRT compiled nothing; its log above tells why")
        return Compiled(bytes(plan), bytes(config.get_timing_cache().serialize()))

    def refit(self, plan: bytes, model: bytes) -> bytes:
        """See `Compiler`."""
        with torch.cuda.device(self._torch_device):
            engine = self._deserialized(plan)
            refitter = trt.Refitter(engine, self._log)
            weights = trt.OnnxParserRefitter(refitter, self._log)
            if not weights.refit_from_bytes(model):
                raise CheckpointError(f"the weights do not fit the plan: {_errors(weights)}")
            if not refitter.refit_cuda_engine():
                raise CheckpointError(f"weights of the plan are missing: {', '.join(refitter.get_missing_weights())}")
            return bytes(engine.serialize())

    def open(self, plan: bytes) -> Plan:
        """See `Opener`."""
        with torch.cuda.device(self._torch_device):
            return _OfficialPlan(self._deserialized(plan))

    def _deserialized(self, plan: bytes) -> Any:
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise CorruptFileError("TensorRT does not open the plan: another version or device; build it again")
        return engine


class _OfficialPlan:
    """An open ICudaEngine."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self._inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.scratch_bytes = int(engine.device_memory_size_v2)
        self.buckets = tuple(self._bucket(index) for index in range(engine.num_optimization_profiles))

    def _bucket(self, index: int) -> Bucket:
        return {
            name: ShapeProfile(*(tuple(shape) for shape in self._engine.get_tensor_profile_shape(name, index)))
            for name in self._inputs
        }

    def execution(self, bucket: int, scratch: int) -> Execution:
        """See `Plan`."""
        context = self._engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        context.set_device_memory(scratch, self.scratch_bytes)
        stream = torch.cuda.current_stream()
        context.set_optimization_profile_async(bucket, stream.cuda_stream)
        stream.synchronize()  # a later run may be captured, and choosing a profile may not
        return _OfficialExecution(context)


class _OfficialExecution:
    """An IExecutionContext."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def queue(self, addresses: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]], *, stream: int) -> None:
        """See `Execution`."""
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise ShapeMismatchError(f"the plan takes no {name} of {list(shape)}")
        for name, address in addresses.items():
            self._context.set_tensor_address(name, address)
        if not self._context.execute_async_v3(stream):
            raise ShapeMismatchError(f"the plan does not run on {dict(shapes)}; TensorRT's log tells why")


def _errors(parser: Any) -> str:
    def told() -> Iterator[str]:
        for index in range(parser.num_errors):
            yield str(parser.get_error(index))

    return "; ".join(told()) or "no reason given"
