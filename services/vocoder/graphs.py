"""The vocoder's exported graphs: which there are, what they take, and of what they are made.

    flow_encoder          ids ─> rows                                once a window; stretched and smoothed by torch
    flow_conditions       mu, speaker, prompt ─> a share             once a window: what all steps have in common
    flow_step             state, that share, time ─> next state        ten times: guidance and Euler step inside
    hift_f0               mel ─> F0                                  the harmonic source between them stays with torch:
    hift_wave             mel, source ─> wave                        it counts phase in double precision

A step takes B streams; the share of their conditions has 2B rows, with and without guidance. Both Fourier transforms
of HiFT are inside `hift_wave`: of 16 samples every 4, they are products with small constant matrices, which every
runtime has, and no STFT or DFT node, which TensorRT has not.

Knows neither exporter nor runtime: `engine/` writes these graphs, `onnx_networks` runs them.
"""

from pathlib import Path
from typing import Final

from services.shared import graphs
from services.shared.graphs.cache import content_key
from services.shared.graphs.spec import GraphSpec
from services.shared.triton.tensors import DType
from services.vocoder.config import CONFIG_FILE, FLOW_FILE, HIFT_FILE, HOP_SAMPLES, MEL_CHANNELS, VocoderConfig

ROOM: Final = "vocoder"

_MEL: Final = MEL_CHANNELS


def flow_encoder() -> GraphSpec:
    """Token ids, prompt and target together, to rows."""
    return GraphSpec("flow_encoder", {"ids": (1, "N")}, {"rows": (1, "N", _MEL)}, {"ids": DType.INT64})


def flow_conditions(config: VocoderConfig) -> GraphSpec:
    """The share of mu, speaker and prompt mel in the estimator's first block."""
    share = ("2B", config.flow.estimator.channels, "T")
    return GraphSpec(
        "flow_conditions",
        {"mu": ("B", _MEL, "T"), "speaker": ("B", _MEL), "known": ("B", _MEL, "T")},
        {"block": share, "residual": share},
    )


def flow_step(config: VocoderConfig) -> GraphSpec:
    """One Euler step of B streams."""
    sizes = config.flow.estimator
    share, state = ("2B", sizes.channels, "T"), ("B", _MEL, "T")
    levels = 4 + sizes.mid_levels
    return GraphSpec(
        "flow_step",
        {"state": state, "block": share, "residual": share, "time": (levels, sizes.channels), "length": (1,)},
        {"next_state": state},
    )


def hift_f0() -> GraphSpec:
    """F0 of each frame."""
    return GraphSpec("hift_f0", {"mel": (1, _MEL, "M")}, {"f0": (1, "M")})


def hift_wave() -> GraphSpec:
    """Mel and source, a row of samples a frame, to wave."""
    return GraphSpec("hift_wave", {"mel": (1, _MEL, "M"), "source": ("M", HOP_SAMPLES)}, {"wave": ("M", HOP_SAMPLES)})


def all_graphs(config: VocoderConfig) -> tuple[GraphSpec, ...]:
    """All of them."""
    return flow_encoder(), flow_conditions(config), flow_step(config), hift_f0(), hift_wave()


def graphs_key(folder: str | Path) -> str:
    """What the graphs of a vocoder folder are made of: its networks, and the code of this room.

    Raises:
        MissingFileError: a file of the folder is absent.
    """
    room, shared = Path(__file__).parent, Path(graphs.__file__).parent
    own = ("config.py", "graphs.py", "streaming.py", "flow", "hift", "engine")
    code = [*(room / name for name in own), shared / "export.py", shared / "spec.py"]
    return content_key(files=[Path(folder) / name for name in (CONFIG_FILE, FLOW_FILE, HIFT_FILE)], code=code)
