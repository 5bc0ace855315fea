"""A ModelSpec as Triton's config.pbtxt.

The committed files are what this renders, byte for byte:

    python -m services.shared.triton.config model_repository

Decides the schedulers' settings; everything about tensors comes from the spec.
Source: Triton's model_config.proto.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from services.shared.triton.context import PRIORITY_LEVELS
from services.shared.triton.specs import MODELS
from services.shared.triton.tensors import DType, ModelKind, ModelSpec, TensorSpec

SEQUENCE_IDLE_S: Final = 60
"""A sequence without a request for so long is over: its caller died before it could end it."""

CHECKPOINTS_DEFAULT: Final = "../../checkpoints/nano"
"""From the model's folder to the checkpoint in this repository."""

_BATCH_DELAY_US: Final = 2000
"""A ready chunk waits this long for others to share its pass: little beside the pass itself."""


def render(spec: ModelSpec) -> str:
    """The text of the model's config.pbtxt."""
    lines = [
        f"# {spec.doc}",
        "# Rendered from services/shared/triton/specs.py by `python -m services.shared.triton.config`.",
        f'name: "{spec.name}"',
        'backend: "python"',
        f"max_batch_size: {spec.max_batch}",
    ]
    lines += tensor_lines(spec)
    # The model itself says where it runs (STEPAUDIO_DEVICE), so the same file serves machines with and without GPUs.
    lines.append("instance_group [ { count: 1 kind: KIND_MODEL } ]")
    lines += _scheduler(spec)
    lines.append(f'parameters {{ key: "checkpoints" value {{ string_value: "{CHECKPOINTS_DEFAULT}" }} }}')
    return "\n".join(lines) + "\n"


def write_all(repository: Path) -> list[Path]:
    """Write every model's config.pbtxt below the repository, and say where."""
    written = []
    for spec in MODELS:
        path = config_path(repository, spec)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(spec), encoding="utf-8")
        written.append(path)
    return written


def config_path(repository: Path, spec: ModelSpec) -> Path:
    """Where a model's config.pbtxt stands."""
    return repository / spec.pool / spec.name / "config.pbtxt"


def tensor_lines(spec: ModelSpec) -> list[str]:
    """What the model takes and gives."""
    inputs = [line for tensor in spec.inputs for line in _tensor("input", tensor, ragged=spec.has_batch_dimension)]
    return inputs + [line for tensor in spec.outputs for line in _tensor("output", tensor, ragged=False)]


def _tensor(kind: str, tensor: TensorSpec, *, ragged: bool) -> Iterable[str]:
    dtype = "STRING" if tensor.dtype is DType.BYTES else tensor.dtype
    fields = [f'name: "{tensor.name}"', f"data_type: TYPE_{dtype}", f"dims: [ {', '.join(map(str, tensor.shape))} ]"]
    if tensor.optional:
        fields.append("optional: true")
    if ragged:
        fields.append("allow_ragged_batch: true")
    return f"# {tensor.name} {tensor.shape_text}: {tensor.doc}.", f"{kind} [ {{ {' '.join(fields)} }} ]"


def _scheduler(spec: ModelSpec) -> Iterable[str]:
    if spec.kind is ModelKind.DECOUPLED:
        return ("model_transaction_policy { decoupled: true }",)
    if spec.kind is ModelKind.BATCHED:
        return (
            "dynamic_batching {",
            f"  max_queue_delay_microseconds: {_BATCH_DELAY_US}",
            # Earliest deadline first: a level is 100 ms of slack.
            f"  priority_levels: {PRIORITY_LEVELS}",
            "  default_priority_level: 1",
            "}",
        )
    if spec.kind is ModelKind.SEQUENCE:
        return (
            "sequence_batching {",
            f"  max_sequence_idle_microseconds: {SEQUENCE_IDLE_S * 1_000_000}",
            "  direct { }",
            # No CORRID: Triton pads a string one to 128 bytes and then refuses it; the request itself knows its id.
            *(f"  {_control(name)}" for name in ("START", "END", "READY")),
            "}",
        )
    return ()


def _control(name: str) -> str:
    return (
        f'control_input [ {{ name: "{name}" control [ {{ kind: CONTROL_SEQUENCE_{name} '
        "int32_false_true: [ 0, 1 ] } ] } ]"
    )


if __name__ == "__main__":
    for path in write_all(Path(sys.argv[1])):
        sys.stdout.write(f"{path}\n")
