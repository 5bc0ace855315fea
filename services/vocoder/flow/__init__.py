"""The flow room's door: `load_flow`."""

from pathlib import Path

import torch

from services.shared.nn.checkpoint import load_strictly, read_torch_state
from services.vocoder.config import FLOW_FILE, load_config
from services.vocoder.flow.model import Flow, FrameWindow
from services.vocoder.voice import VoiceFeatures

__all__ = ["Flow", "FrameWindow", "VoiceFeatures", "load_flow"]


def load_flow(folder: str | Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Flow:
    """Load the flow of a vocoder folder (`cosyvoice.yaml`, `flow.pt`).

    Args:
        folder: the vocoder's.
        device: where the networks compute.
        dtype: of the networks; bfloat16 is what the release runs, the Euler state stays float32.

    Raises:
        MissingFileError, CorruptFileError, ShapeMismatchError, CheckpointError: the folder cannot be used.
    """
    path = Path(folder) / FLOW_FILE
    flow = Flow(load_config(folder).flow)
    load_strictly(flow, read_torch_state(path), path)
    return finish_flow(flow, device=device, dtype=dtype)


def finish_flow(flow: Flow, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Flow:
    """Make a flow whose weights are in place ready to run: inference mode, device, dtype."""
    return flow.requires_grad_(False).eval().to(device=device, dtype=dtype)
