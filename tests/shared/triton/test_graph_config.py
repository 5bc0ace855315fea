"""Configurations of graphs and plans are what Triton's own schema takes, and what its real server understands."""

import re
import subprocess
from pathlib import Path

import pytest

from services.local.triton import assemble_backend, free_ports, is_installed
from services.shared.graphs.plans.buckets import buckets_of
from services.shared.graphs.plans.port import Bucket
from services.shared.graphs.repository import GraphModels, write_repository
from services.shared.graphs.spec import GraphSpec
from services.shared.triton.graph_config import Backend, render_graph
from services.tokenizer import graphs as tokenizer_graphs
from services.tokenizer.engine.build import SHARED_AXES as WINDOW_AXES
from services.tokenizer.engine.profiles import RANGES
from services.tokenizer.paraformer.config import EncoderConfig
from services.vocoder import graphs as vocoder_graphs
from services.vocoder.config import parse_text
from services.vocoder.engine.build import SHARED_AXES
from services.vocoder.engine.profiles import stream_ranges
from services.vocoder.flow import Flow
from services.vocoder.hift import HiFT
from tests.shared.graphs.plans.toy import RANGES as TOY_RANGES
from tests.shared.graphs.plans.toy import SPEC, toy_model
from tests.vocoder.engine.toy import TOY_YAML

pytest.importorskip("tritonclient", reason="the messages of Triton are in the extra `triton`")

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb


def all_graphs() -> list[tuple[GraphSpec, tuple[Bucket, ...]]]:
    config = parse_text(TOY_YAML, Path("toy"))
    ranges = stream_ranges(Flow(config.flow), HiFT(config.hift))
    encoder = tokenizer_graphs.linguistic_encoder(EncoderConfig(512, 4, 2048, 50))
    made = [(spec, buckets_of(spec, ranges, shared=SHARED_AXES)) for spec in vocoder_graphs.all_graphs(config)]
    return [*made, (encoder, buckets_of(encoder, RANGES, shared=WINDOW_AXES))]


EACH_GRAPH = pytest.mark.parametrize(("spec", "buckets"), all_graphs(), ids=lambda value: getattr(value, "name", ""))


def read(spec: GraphSpec, backend: Backend, buckets: tuple[Bucket, ...], device: str = "cuda") -> pb.ModelConfig:
    usual = [{name: profile.usual for name, profile in bucket.items()} for bucket in buckets]
    return text_format.Parse(render_graph(spec.model("pool"), backend, device=device, usual=usual), pb.ModelConfig())


@EACH_GRAPH
@pytest.mark.contract
@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt_plan"])
def test_the_schema_reads_tensors_of_the_spec(spec: GraphSpec, buckets: tuple[Bucket, ...], backend: Backend) -> None:
    config = read(spec, backend, buckets)
    assert (config.name, config.max_batch_size) == (spec.name, 0)
    for tensors, declared in ((config.input, spec.inputs), (config.output, spec.outputs)):
        assert [tensor.name for tensor in tensors] == list(declared)
        for tensor, axes in zip(tensors, declared.values(), strict=True):
            assert list(tensor.dims) == [-1 if isinstance(axis, str) else axis for axis in axes]
            assert pb.DataType.Name(tensor.data_type) == f"TYPE_{spec.types.get(tensor.name, 'FP32')}"


@EACH_GRAPH
@pytest.mark.contract
def test_a_plan_has_a_profile_and_a_cuda_graph_for_each_bucket(spec: GraphSpec, buckets: tuple[Bucket, ...]) -> None:
    config = read(spec, "tensorrt_plan", buckets)
    (group,) = config.instance_group
    assert group.kind == pb.ModelInstanceGroup.KIND_GPU
    assert list(group.profile) == [str(index) for index in range(len(buckets))]
    assert config.optimization.cuda.graphs
    for graph_spec, bucket in zip(config.optimization.cuda.graph_spec, buckets, strict=True):
        assert {name: tuple(shape.dim) for name, shape in graph_spec.input.items()} == {
            name: profile.usual for name, profile in bucket.items()
        }


@pytest.mark.contract
def test_onnx_runtime_runs_where_it_is_told_to() -> None:
    buckets = buckets_of(SPEC, TOY_RANGES, shared={"B": 1})
    kinds = [read(SPEC, "onnxruntime", buckets, device).instance_group[0].kind for device in ("cpu", "cuda:1")]
    assert kinds == [pb.ModelInstanceGroup.KIND_CPU, pb.ModelInstanceGroup.KIND_GPU]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ("onnxruntime", "unable to find backend library for backend 'onnxruntime'"),
        ("tensorrt_plan", "unable to find backend library for backend 'tensorrt'|no GPU|GPU"),
    ],
)
def test_the_real_server_takes_the_configuration_and_lacks_the_backend_alone(
    tmp_path: Path, backend: Backend, reason: str
) -> None:
    if not is_installed():
        pytest.skip("the Triton server is in the extra `local`")
    files = tmp_path / "files"
    files.mkdir()
    for name in ("toy.onnx", "toy.plan"):
        (files / name).write_bytes(toy_model())
    models = GraphModels("pool", (SPEC,), {"toy": buckets_of(SPEC, TOY_RANGES, shared={"B": 1})}, files)
    (config,) = write_repository(tmp_path / "models", models, backend, device="cpu")
    assert re.search(reason, said(tmp_path))
    config.write_text(config.read_text().replace("max_batch_size: 0", "max_batch_size: zero"))
    assert re.search("failed to read text proto|Expected integer", said(tmp_path))


def said(folder: Path) -> str:
    """What the server says when it loads the models; it ends by itself, as none can be loaded."""
    backend = assemble_backend(folder / "backends")
    grpc, http, metrics = free_ports(3)
    done = subprocess.run(
        [
            str(backend.server),
            f"--model-repository={folder / 'models'}",
            f"--backend-directory={backend.backends}",
            "--disable-auto-complete-config",
            f"--grpc-port={grpc}",
            f"--http-port={http}",
            f"--metrics-port={metrics}",
            "--allow-gpu-metrics=false",
        ],
        env={"LD_LIBRARY_PATH": str(backend.libraries), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode
    return done.stdout + done.stderr
