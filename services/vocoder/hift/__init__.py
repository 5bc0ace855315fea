"""The HiFT room's door: `load_hift`."""

from pathlib import Path

from services.shared.nn.checkpoint import load_strictly, read_torch_state
from services.vocoder.config import HIFT_FILE, load_config
from services.vocoder.hift.model import HiFT

__all__ = ["HiFT", "load_hift"]


def load_hift(folder: str | Path, *, device: str = "cpu") -> HiFT:
    """Load the HiFT of a vocoder folder (`cosyvoice.yaml`, `hift.pt`); it always runs in float32, as released.

    Raises:
        MissingFileError, CorruptFileError, ShapeMismatchError, CheckpointError: the folder cannot be used.
    """
    path = Path(folder) / HIFT_FILE
    hift = HiFT(load_config(folder).hift)
    load_strictly(hift, read_torch_state(path), path)
    return finish_hift(hift, device=device)


def finish_hift(hift: HiFT, *, device: str = "cpu") -> HiFT:
    """Make a HiFT whose weights are in place ready to run: inference mode, device, folded weights."""
    hift.requires_grad_(False).eval().to(device)
    hift.fold()
    return hift
