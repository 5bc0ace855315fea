"""The plans of a room as its composition root wants them. TensorRT is imported where it is chosen, and nowhere else."""

from collections.abc import Callable
from pathlib import Path

import torch

from services.shared.errors import InvalidOptionError
from services.shared.graphs.cache import GraphFolder, find_graphs
from services.shared.graphs.plans.gate import check_gate
from services.shared.graphs.plans.keys import Precision, plan_file, plans_key, plans_room
from services.shared.graphs.plans.port import Opener
from services.shared.graphs.plans.session import Accelerator, PlanSession
from services.shared.graphs.spec import GraphSpec


def open_plans(
    cache: Path,
    room: str,
    graphs_key: str,
    precision: Precision,
    *,
    opener: Opener,
    accelerator: Accelerator,
) -> Callable[[GraphSpec], PlanSession]:
    """Find the plans of a room and check what they were held to; each is opened when it is asked for.

    Raises:
        MissingFileError: they were not built for this device, version, checkpoint, code and precision.
        CorruptFileError: they are damaged.
        CheckpointError: they are further from torch than their bound.
    """
    plans: GraphFolder = find_graphs(cache, plans_room(room), plans_key(graphs_key, opener, precision))
    check_gate(plans)

    def session(spec: GraphSpec) -> PlanSession:
        return PlanSession(opener.open(plans.read(plan_file(spec))), spec.name, accelerator)

    return session


def open_on_device(
    cache: Path, room: str, graphs_key: str, precision: Precision, device: str
) -> Callable[[GraphSpec], PlanSession]:
    """`open_plans` by NVIDIA's package on a CUDA device.

    Raises:
        InvalidOptionError: the device is no CUDA device, or the package is not installed; else as `open_plans`.
    """
    if not device.startswith("cuda"):
        raise InvalidOptionError(f"plans of TensorRT run on cuda, not on {device}; choose another engine")
    try:
        from services.shared.graphs.plans.official import OfficialTensorRt
    except ImportError as error:
        raise InvalidOptionError(
            f"engine (STEPAUDIO_ENGINE) is tensorrt, which is not installed here ({error}); install it, or choose "
            "onnxruntime"
        ) from error
    from services.shared.graphs.plans.capture import CudaAccelerator

    place = torch.device(device)
    return open_plans(
        cache, room, graphs_key, precision, opener=OfficialTensorRt(place), accelerator=CudaAccelerator(place)
    )
