"""Providers are data, and one that is not there is refused."""

from pathlib import Path

import onnxruntime as ort
import pytest

from services.shared.errors import InvalidOptionError
from services.shared.graphs.providers import (
    CPU,
    CUDA,
    TENSORRT,
    Provider,
    TensorRtOptions,
    check_available,
    providers_for,
)
from services.shared.graphs.spec import ShapeProfile

OPTIONS = TensorRtOptions(
    {
        "state": ShapeProfile((1, 80, 1), (1, 80, 529), (8, 80, 900)),
        "length": ShapeProfile((1,), (1,), (1,)),
    },
    Path("engines"),
)


@pytest.mark.unit
def test_a_cpu_has_one_provider() -> None:
    assert providers_for("cpu") == (Provider(CPU),)


@pytest.mark.unit
def test_a_gpu_falls_back_from_tensorrt_to_cuda_to_the_cpu() -> None:
    providers = providers_for("cuda:1", OPTIONS)
    assert [provider.name for provider in providers] == [TENSORRT, CUDA, CPU]
    assert [provider.options["device_id"] for provider in providers[:2]] == ["1", "1"]
    assert [provider.name for provider in providers_for("cuda")] == [CUDA, CPU]


@pytest.mark.unit
def test_tensorrt_is_told_the_shapes_of_every_input() -> None:
    options = providers_for("cuda", OPTIONS)[0].options
    assert options["trt_profile_min_shapes"] == "state:1x80x1,length:1"
    assert options["trt_profile_opt_shapes"] == "state:1x80x529,length:1"
    assert options["trt_profile_max_shapes"] == "state:8x80x900,length:1"
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == "engines"


@pytest.mark.unit
def test_onnx_runtime_knows_the_providers_names() -> None:
    assert {CPU, CUDA, TENSORRT} <= set(ort.get_all_providers())


@pytest.mark.unit
@pytest.mark.parametrize("device", ["tpu", "cuda:x", "", "cpu0"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(InvalidOptionError):
        providers_for(device)


@pytest.mark.unit
def test_tensorrt_on_a_cpu_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="STEPAUDIO_DEVICE=cuda"):
        providers_for("cpu", OPTIONS)


@pytest.mark.unit
def test_a_provider_that_this_build_lacks_is_refused_and_not_passed_over() -> None:
    check_available(providers_for("cpu"))
    with pytest.raises(InvalidOptionError, match="onnxruntime-gpu"):
        check_available((Provider("NoSuchExecutionProvider"), Provider(CPU)))
