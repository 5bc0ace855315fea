"""A graph or plan as a Triton model of a native backend: its config.pbtxt, from the same specs as the rooms' models.

    onnxruntime     <name>.onnx on CUDA or the CPU
    tensorrt_plan   <name>.plan on CUDA, one optimization profile for each bucket, CUDA graphs for its usual shapes

The rooms run these networks inside their own processes, where a stream's state is; as models of their own they serve
whoever wants a network alone, perf_analyzer and ensembles among them.

Source: Triton's model_config.proto, the pages of both backends.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from services.shared.triton.config import tensor_lines
from services.shared.triton.tensors import ModelSpec

Backend = Literal["onnxruntime", "tensorrt_plan"]
Shapes = Mapping[str, Sequence[int]]
"""Input name -> one shape."""

SUFFIXES: Final[Mapping[Backend, str]] = {"onnxruntime": ".onnx", "tensorrt_plan": ".plan"}


def render_graph(
    spec: ModelSpec, backend: Backend, *, device: str, usual: Sequence[Shapes] = (), threads: int = 1
) -> str:
    """The text of the model's config.pbtxt.

    Args:
        spec: of the graph, see `GraphSpec.model`.
        backend: what runs it.
        device: `cuda` or `cpu`, as the rooms' setting; a plan runs on cuda whatever it says.
        usual: of a plan, the usual shapes of each bucket.
        threads: of ONNX Runtime on the CPU.
    """
    on_gpu = backend == "tensorrt_plan" or device.startswith("cuda")
    kind = "KIND_GPU" if on_gpu else "KIND_CPU"
    lines = [
        f"# {spec.doc}",
        "# Rendered from the room's graphs by `python -m services.<room>.engine.repository`.",
        f'name: "{spec.name}"',
        *_engine(backend),
        f'default_model_filename: "{spec.name}{SUFFIXES[backend]}"',
        "max_batch_size: 0",
        *tensor_lines(spec),
    ]
    if backend == "tensorrt_plan":
        profiles = ", ".join(f'"{index}"' for index in range(len(usual)))
        lines.append(f"instance_group [ {{ count: 1 kind: {kind} profile: [ {profiles} ] }} ]")
        lines += _cuda_graphs(usual)
    else:
        lines.append(f"instance_group [ {{ count: 1 kind: {kind} }} ]")
        lines += [_parameter("intra_op_thread_count", str(threads)), _parameter("inter_op_thread_count", "1")]
    return "\n".join(lines) + "\n"


def _engine(backend: Backend) -> tuple[str, ...]:
    if backend == "tensorrt_plan":
        return 'platform: "tensorrt_plan"', 'backend: "tensorrt"'
    return 'platform: "onnxruntime_onnx"', 'backend: "onnxruntime"'


def _cuda_graphs(usual: Sequence[Shapes]) -> Sequence[str]:
    lines = ["optimization { cuda {", "  graphs: true"]
    for shapes in usual:
        inputs = " ".join(
            f'input {{ key: "{name}" value {{ dim: [ {", ".join(map(str, shape))} ] }} }}'
            for name, shape in shapes.items()
        )
        lines.append(f"  graph_spec {{ batch_size: 0 {inputs} }}")
    return [*lines, "} }"]


def _parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
