"""A torch module as an ONNX file, checked against the module through ONNX Runtime before anyone may use it.

The opset is fixed: 18 is what torch's exporter writes without conversion, and what every runtime of the last years
reads, TensorRT's parser included. What the exporter notes about its sources (paths, stack traces) is taken out, so
that equal modules give files of equal meaning anywhere.

Decides the opset, and that no free axis was fixed on the way. Refuses to know which module it is.
"""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import onnx
import torch
from torch import Tensor, nn

from services.shared.errors import CheckpointError
from services.shared.graphs.cache import Parity
from services.shared.graphs.providers import providers_for
from services.shared.graphs.session import GraphSession, Runtime
from services.shared.graphs.spec import Axes, GraphSpec

OPSET: Final = 18


def export_graph(module: nn.Module, spec: GraphSpec, example: Mapping[str, Tensor], path: Path) -> None:
    """Write a module as an ONNX file.

    Args:
        module: its `forward` takes the inputs of `spec` in order and returns the outputs in order.
        spec: names and axes of the graph.
        example: an input for each name; free axes must be longer than 1, and differ where their names do.
        path: the file.

    Raises:
        CheckpointError: the exporter fixed an axis that is free in `spec`, or freed none.
    """
    automatic = torch.export.Dim.AUTO
    shapes = tuple(
        {place: automatic for place, axis in enumerate(axes) if isinstance(axis, str)} or None
        for axes in spec.inputs.values()
    )
    arguments = tuple(example[name] for name in spec.inputs)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns of its own parts, in every release of others
        program = torch.export.export(module.eval(), arguments, dynamic_shapes=shapes, strict=False)
        written: Any = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(spec.inputs),
            output_names=list(spec.outputs),
            verbose=False,
        )
    model = written.model_proto
    _strip(model)
    for values, tensors in ((model.graph.input, spec.inputs), (model.graph.output, spec.outputs)):
        for value, (name, axes) in zip(values, tensors.items(), strict=True):
            _name_axes(value, name, axes, spec)
    onnx.save(model, str(path))


def check_parity(
    module: nn.Module, spec: GraphSpec, path: Path, samples: Iterable[Mapping[str, Tensor]], *, bound: float
) -> Parity:
    """Run a graph and its module on the same inputs.

    Args:
        module: which the graph was written from.
        spec: names and axes of the graph.
        path: the graph's file.
        samples: inputs by name, of several lengths.
        bound: of the largest difference, relative to the largest value of the module's own results where that is
            above 1.

    Returns:
        the differences over all samples and outputs.

    Raises:
        CheckpointError: a difference is beyond the bound, or not finite.
    """
    session = GraphSession(path.read_bytes(), path, Runtime(torch.device("cpu"), providers_for("cpu")))
    largest = scale = total = count = 0.0
    for sample in samples:
        with torch.inference_mode():
            result = module(*(sample[name] for name in spec.inputs))
        expected = [result] if isinstance(result, Tensor) else list(result)
        actual = {name: torch.empty_like(value) for name, value in zip(spec.outputs, expected, strict=True)}
        session.run(sample, actual)
        for wanted, given in zip(expected, actual.values(), strict=True):
            difference = (wanted - given).abs()
            largest = max(largest, difference.max().item())
            scale = max(scale, wanted.abs().max().item())
            total, count = total + difference.sum().item(), count + difference.numel()
    parity = Parity(largest, total / max(count, 1), scale)
    if not total < float("inf") or largest > bound * max(scale, 1.0):
        raise CheckpointError(f"{path.name} is {largest:.1e} from torch where values reach {scale:.1e}; it is not used")
    return parity


def _strip(model: onnx.ModelProto) -> None:
    """Take out notes about where each node came from."""
    graph = model.graph
    noted: list[Any] = [model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer]
    for message in noted:  # onnx's messages share these fields, but no type that says so
        del message.metadata_props[:]
        message.doc_string = ""
    del graph.value_info[:]


def _name_axes(value: onnx.ValueInfoProto, name: str, axes: Axes, spec: GraphSpec) -> None:
    """Give free axes the names of the spec; what is free must be so in the graph, and nothing else."""
    dims = value.type.tensor_type.shape.dim
    free = [dim.HasField("dim_param") for dim in dims]
    if value.name != name or free != [isinstance(axis, str) for axis in axes]:
        found = [dim.dim_param or dim.dim_value for dim in dims]
        raise CheckpointError(f"the exporter wrote {value.name} {found} where {spec.name} has {name} {list(axes)}")
    for dim, axis in zip(dims, axes, strict=True):
        if isinstance(axis, str):
            dim.dim_param = axis
        elif dim.dim_value != axis:
            raise CheckpointError(f"{name} of {spec.name} has {dim.dim_value} where {axis} was due")
