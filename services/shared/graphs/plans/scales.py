"""The largest value of each activation that meets a constant matrix, over samples: what float8 needs to know.

The float32 graph is run with those activations as further outputs.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import onnxruntime as ort
from torch import Tensor


def activation_scales(content: bytes, samples: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:
    """Measure.

    Args:
        content: an exported graph, in float32.
        samples: inputs by name.

    Returns:
        activation -> largest absolute value; activations that were zero throughout are left out.
    """
    model = onnx.load_model_from_string(content)
    matrices = {weights.name for weights in model.graph.initializer if len(weights.dims) == 2}
    wanted = {node.input[0] for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in matrices}
    given = {value.name for value in model.graph.input}
    present = {value.name for value in model.graph.output}
    added = sorted(wanted - present - given)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in added)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    largest = dict.fromkeys(sorted(wanted), 0.0)
    for sample in samples:
        inputs = {name: tensor.numpy() for name, tensor in sample.items()}
        computed = session.run(added, inputs) if added else []  # no names would mean all outputs
        values = dict(zip(added, computed, strict=True)) | inputs
        for name in wanted & set(values):
            largest[name] = max(largest[name], float(np.abs(values[name]).max()))
    return {name: value for name, value in largest.items() if value > 0}
