"""The command of a room's build: compile its graphs, hold them against torch, and say how far they are."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, get_args

import torch

from services.shared.errors import InvalidOptionError, StepAudioError
from services.shared.graphs.cache import GraphFolder
from services.shared.graphs.options import command_log, command_parser
from services.shared.graphs.plans.gate import check_gate
from services.shared.graphs.plans.keys import Precision
from services.shared.graphs.plans.port import Compiler, Opener
from services.shared.graphs.plans.session import Accelerator


class Builder(Compiler, Opener, Protocol):
    """Makes plans and opens them, to measure them at once."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """With what plans are made.

    Attributes:
        builder: TensorRT on one device.
        accelerator: that device's side of torch.
        device: as torch names it.
        cache: where graphs and plans are kept.
        precision: of the plans.
    """

    builder: Builder
    accelerator: Accelerator
    device: torch.device
    cache: Path
    precision: Precision


def run_build(
    room: str, build: Callable[[Path, Workshop], list[GraphFolder]], arguments: list[str] | None = None
) -> int:
    """Run the command.

    Args:
        room: its name.
        build: (folder of the three public folders, with what) -> whole folders of plans.
        arguments: of the command line; the process's own if left out.

    Returns:
        the exit code.
    """
    parser = command_parser(f"python -m services.{room}.engine.build", __doc__)
    parser.add_argument("--precision", choices=get_args(Precision), default="float16")
    parser.add_argument("--device", default="cuda")
    chosen = parser.parse_args(arguments)
    log = command_log(__name__)
    try:
        workshop = official_workshop(chosen.device, chosen.cache, chosen.precision)
        for plans in build(chosen.checkpoints, workshop):
            gate = check_gate(plans)
            log.info("%s: %s is %.3g from torch, bound %.3g", plans.path, gate.measure, gate.distance, gate.bound)
    except StepAudioError as error:
        log.error("error: %s", error)
        return 1
    return 0


def official_workshop(device: str, cache: Path, precision: Precision) -> Workshop:
    """NVIDIA's package on a CUDA device.

    Raises:
        InvalidOptionError: there is no such device, or the package is not installed.
    """
    if not device.startswith("cuda") or not torch.cuda.is_available():
        raise InvalidOptionError(f"plans are compiled on the device that runs them; {device} is no CUDA device here")
    try:
        from services.shared.graphs.plans.official import OfficialTensorRt
    except ImportError as error:
        raise InvalidOptionError(f"TensorRT is not installed here ({error}); use the image of the room") from error
    from services.shared.graphs.plans.capture import CudaAccelerator

    place = torch.device(device)
    return Workshop(OfficialTensorRt(place), CudaAccelerator(place), place, cache, precision)
