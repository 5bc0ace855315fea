"""On what ONNX Runtime computes: a list of providers with their options, as data.

    cpu                  CPU
    cuda                 CUDA, CPU
    cuda with TensorRT   TensorRT, CUDA, CPU: TensorRT compiles what it can, the others take the rest

The first one of the list must really be there: ONNX Runtime alone would go on with the next one, many times slower, and
only log it.

Source: the execution providers' pages of ONNX Runtime's documentation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import onnxruntime as ort

from services.shared.errors import InvalidOptionError
from services.shared.graphs.spec import ShapeProfile

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
TENSORRT: Final = "TensorrtExecutionProvider"


@dataclass(frozen=True, slots=True)
class Provider:
    """An execution provider by its name, with its options as ONNX Runtime takes them."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TensorRtOptions:
    """How the TensorRT provider compiles a graph.

    Attributes:
        profiles: input name -> shapes; of all inputs of the graph.
        cache: folder of compiled engines and timings.
        half: whether float16 may be used inside.
    """

    profiles: Mapping[str, ShapeProfile]
    cache: Path
    half: bool = False


def providers_for(device: str, tensorrt: TensorRtOptions | None = None) -> tuple[Provider, ...]:
    """The providers of a device, the wanted one first.

    Args:
        device: `cpu`, `cuda` or `cuda:N`, as torch names it.
        tensorrt: compile with TensorRT first.

    Raises:
        InvalidOptionError: no such device, or TensorRT on a CPU.
    """
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or not (number or "0").isdigit():
        raise InvalidOptionError(f"graphs run on cpu, cuda or cuda:N, not {device!r}")
    if kind == "cpu":
        if tensorrt:
            raise InvalidOptionError("TensorRT needs a CUDA device; set STEPAUDIO_DEVICE=cuda or another engine")
        return (Provider(CPU),)
    cuda = Provider(
        CUDA,
        {
            "device_id": number or "0",
            "arena_extend_strategy": "kSameAsRequested",  # torch shares the memory
            "cudnn_conv_algo_search": "HEURISTIC",  # lengths change from window to window: no search for each
            "use_tf32": "0",  # parity is measured in float32
        },
    )
    first = () if tensorrt is None else (_tensorrt(number or "0", tensorrt),)
    return (*first, cuda, Provider(CPU))


def check_available(providers: tuple[Provider, ...]) -> None:
    """Refuse a list whose first provider this build of ONNX Runtime lacks.

    Raises:
        InvalidOptionError: it is lacking.
    """
    if providers[0].name not in ort.get_available_providers():
        raise InvalidOptionError(
            f"this onnxruntime has no {providers[0].name}, only {', '.join(ort.get_available_providers())}; "
            "install onnxruntime-gpu in its place, or choose another device or engine"
        )


def _tensorrt(device_id: str, options: TensorRtOptions) -> Provider:
    profiles = options.profiles
    return Provider(
        TENSORRT,
        {
            "device_id": device_id,
            "trt_profile_min_shapes": _shapes({name: profile.least for name, profile in profiles.items()}),
            "trt_profile_opt_shapes": _shapes({name: profile.usual for name, profile in profiles.items()}),
            "trt_profile_max_shapes": _shapes({name: profile.most for name, profile in profiles.items()}),
            "trt_fp16_enable": "1" if options.half else "0",
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(options.cache),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(options.cache),
            "trt_builder_optimization_level": "3",
        },
    )


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """`name:1x80x529,…`, as the provider reads shapes."""
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
