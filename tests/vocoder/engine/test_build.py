"""The vocoder by plans is the vocoder by torch, or is not kept; TensorRT is a fake that computes the same graphs."""

import shutil
from pathlib import Path

import onnx
import pytest
import torch

from services.shared.errors import CheckpointError, InvalidOptionError
from services.shared.graphs.plans.command import Workshop, official_workshop, run_build
from services.shared.graphs.plans.gate import check_gate
from services.shared.graphs.plans.keys import Precision
from services.shared.graphs.plans.opening import open_plans
from services.shared.graphs.plans.precision import OPERATORS
from services.shared.paths import MUSIC_VOCODER_FOLDER, TTS_FOLDER, VOCODER_FOLDER
from services.vocoder import graphs, load_vocoder
from services.vocoder.config import CONFIG_FILE, load_config
from services.vocoder.engine import build
from services.vocoder.engine.build import SHARED_AXES, build_all, ensure_vocoder_plans, precision_of
from services.vocoder.onnx_networks import by_sessions
from tests.fakes.tensorrt import FakeAccelerator, FakeTensorRt, louder
from tests.vocoder.engine.conftest import Toy

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def cache(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy's graphs, in a cache of this module's own."""
    copied = tmp_path_factory.mktemp("plans")
    shutil.copytree(toy.settings.cache, copied, dirs_exist_ok=True)
    return copied


def exported_folder(cache: Path) -> Path:
    (folder,) = (path for path in cache.iterdir() if path.is_dir() and "plans" not in path.name)
    return folder


def workshop(cache: Path, precision: Precision = "float16", builder: FakeTensorRt | None = None) -> Workshop:
    return Workshop(builder or FakeTensorRt(), FakeAccelerator(), torch.device("cpu"), cache, precision)


def test_speech_by_plans_is_within_the_bound_of_torch(toy: Toy, cache: Path) -> None:
    gate = check_gate(ensure_vocoder_plans(toy.folder, workshop(cache)).plans)
    print(f"float16: log-mel {gate.distance:.2e} from torch")
    assert 0 < gate.distance < 0.1 * gate.bound


def test_float8_is_built_with_scales_and_is_further_away(
    toy: Toy, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "LOG_MEL_BOUND", 0.25)  # networks as narrow as the toy's have no room for it
    gate = check_gate(ensure_vocoder_plans(toy.folder, workshop(cache, "float8")).plans)
    print(f"float8: log-mel {gate.distance:.2e} from torch")
    assert 0.005 < gate.distance < 0.2


def test_a_room_runs_on_the_plans_that_were_built(toy: Toy, cache: Path) -> None:
    ensure_vocoder_plans(toy.folder, workshop(cache))
    opened = open_plans(
        cache,
        graphs.ROOM,
        graphs.graphs_key(toy.folder),
        "float16",
        opener=FakeTensorRt(),
        accelerator=FakeAccelerator(),
    )
    by_torch = load_vocoder(toy.folder)
    flow, _ = by_sessions(by_torch.flow, by_torch.hift, load_config(toy.folder), opened)
    noise, mu = torch.randn(2, 3, 80, 40, generator=torch.Generator().manual_seed(0)).unbind()
    with torch.inference_mode():
        expected = by_torch.flow.integrate(noise, mu, torch.ones(3, 80), mu)
    actual = flow.integrate(noise, mu, torch.ones(3, 80), mu)
    assert 0 < (actual - expected).abs().max() < 0.05


def test_a_compiler_that_computes_something_else_is_found_out(toy: Toy, tmp_path: Path) -> None:
    shutil.copytree(toy.settings.cache, tmp_path, dirs_exist_ok=True)
    careless = FakeTensorRt()
    careless.spoil = louder
    with pytest.raises(CheckpointError, match="log-mel of streamed speech"):
        ensure_vocoder_plans(toy.folder, workshop(tmp_path, "float32", careless))
    assert not list(tmp_path.glob("vocoder-plans-*/"))


def test_pitch_and_wave_stay_wide_and_float8_is_for_the_flows_steps_alone(toy: Toy) -> None:
    specs = {spec.name: spec for spec in graphs.all_graphs(load_config(toy.folder))}
    chosen = {name: precision_of(spec, "float8") for name, spec in specs.items()}
    assert chosen == {
        "flow_encoder": "float16",
        "flow_conditions": "float16",
        "flow_step": "float8",
        "hift_f0": "float32",
        "hift_wave": "float32",
    }
    assert precision_of(specs["flow_encoder"], "bfloat16") == "bfloat16"


def test_the_vocoder_for_music_takes_the_plans_of_the_other_one(toy: Toy, tmp_path: Path) -> None:
    root, cache = tmp_path / "checkpoints" / TTS_FOLDER, tmp_path / "cache"
    shutil.copytree(toy.folder, root / VOCODER_FOLDER)
    shutil.copytree(toy.folder, root / MUSIC_VOCODER_FOLDER)
    with (root / MUSIC_VOCODER_FOLDER / CONFIG_FILE).open("a") as config:
        config.write("# another checkpoint, which happens to have these weights\n")
    shutil.copytree(toy.settings.cache, cache)
    music_graphs = f"{graphs.ROOM}-{graphs.graphs_key(root / MUSIC_VOCODER_FOLDER)}"
    shutil.copytree(exported_folder(cache), cache / music_graphs)
    builder = FakeTensorRt()
    speech, music = build_all(tmp_path / "checkpoints", workshop(cache, builder=builder))
    assert speech.path != music.path
    assert (len(builder.compiled), builder.refits) == (5, 5)
    shutil.rmtree(root / MUSIC_VOCODER_FOLDER)
    assert build_all(tmp_path / "checkpoints", workshop(cache, builder=builder)) == [speech]


def test_the_graphs_can_be_taken_apart_and_put_together_by_the_surgeons(toy: Toy) -> None:
    surgeon = pytest.importorskip("onnx_graphsurgeon")
    polygraphy = pytest.importorskip("polygraphy.backend.onnx")
    folder = exported_folder(toy.settings.cache)
    for spec in graphs.all_graphs(load_config(toy.folder)):
        model = onnx.load(str(folder / spec.file))
        nodes = len(model.graph.node)
        graph = surgeon.import_onnx(polygraphy.fold_constants(model)).cleanup().toposort()
        assert [tensor.name for tensor in graph.inputs] == list(spec.inputs)
        assert 0.9 * nodes < len(graph.nodes) <= nodes
        assert {node.op for node in graph.nodes} <= OPERATORS


def test_every_axis_that_counts_streams_is_known(toy: Toy) -> None:
    named = {
        axes[0]
        for spec in graphs.all_graphs(load_config(toy.folder))
        for axes in spec.inputs.values()
        if isinstance(axes[0], str)
    }
    assert named - set(SHARED_AXES) <= {"M"}


def test_without_a_gpu_the_command_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InvalidOptionError, match="no CUDA device"):
        official_workshop("cuda", tmp_path, "float16")
    assert run_build(graphs.ROOM, build_all, ["--cache", str(tmp_path)]) == 1
    assert "compiled on the device that runs them" in caplog.text
