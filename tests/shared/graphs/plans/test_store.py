"""Plans are made once, found only where they belong, and refused beyond their bound."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from services.shared.errors import CheckpointError, CorruptFileError, InvalidOptionError, MissingFileError
from services.shared.graphs.cache import GraphFolder, GraphRecord, ensure_graphs
from services.shared.graphs.plans.buckets import buckets_of
from services.shared.graphs.plans.gate import GATE_FILE, Gate, check_gate, log_mel_distance, relative_distance
from services.shared.graphs.plans.keys import Precision, plans_key, plans_room
from services.shared.graphs.plans.opening import open_on_device, open_plans
from services.shared.graphs.plans.store import PlanOrder, PlanPlace, Twin, ensure_plans, structure
from tests.fakes.tensorrt import FakeAccelerator, FakeTensorRt
from tests.shared.graphs.plans.toy import GRAPHS_KEY, RANGES, ROOM, SPEC, exported, toy_model

pytestmark = pytest.mark.unit


def build(
    cache: Path,
    compiler: FakeTensorRt,
    *,
    seed: int = 0,
    key: str = GRAPHS_KEY,
    precision: Precision = "float16",
    distance: float = 0.01,
    twin: Twin | None = None,
) -> GraphFolder:
    def measure(plans: Mapping[str, bytes]) -> Gate:
        assert set(plans) == {"toy"}
        return Gate("the toy's sound", distance, 0.05)

    order = PlanOrder(SPEC, precision, buckets_of(SPEC, RANGES, shared={"B": 1}))
    return ensure_plans(
        exported(cache, seed, key=key),
        (order,),
        compiler,
        PlanPlace(cache, ROOM, key, precision),
        measure=measure,
        twin=twin,
    )


def test_plans_are_compiled_once_with_all_buckets(tmp_path: Path) -> None:
    compiler = FakeTensorRt()
    first, second = build(tmp_path, compiler), build(tmp_path, compiler)
    assert first.path == second.path
    assert [(len(recipe.buckets), recipe.refittable) for recipe in compiler.compiled] == [(2, True)]
    assert set(first.digests) == {"toy.plan", GATE_FILE}


@pytest.mark.parametrize(
    ("compiler", "changed"),
    [
        (FakeTensorRt(), {"precision": "bfloat16"}),
        (FakeTensorRt(), {"key": "another checkpoint"}),
        (FakeTensorRt(device="Fake H100 sm_90"), {}),
        (FakeTensorRt(version="10.10.0"), {}),
    ],
    ids=["precision", "graphs", "device", "version"],
)
def test_what_a_plan_is_made_of_is_in_its_key(tmp_path: Path, compiler: FakeTensorRt, changed: dict[str, str]) -> None:
    made = build(tmp_path, FakeTensorRt())
    other = build(tmp_path, compiler, **changed)  # type: ignore[arg-type]  # some of its arguments by name
    assert other.path != made.path
    assert len(compiler.compiled) == 1


def test_timings_are_kept_for_the_next_build_of_the_same_device_and_version(tmp_path: Path) -> None:
    first, second, other = FakeTensorRt(), FakeTensorRt(), FakeTensorRt(device="Fake H100 sm_90")
    build(tmp_path, first)
    build(tmp_path, second, key="another")
    build(tmp_path, other, key="another")
    assert (first.known_timings, second.known_timings, other.known_timings) == ([b""], [b"t"], [b""])
    assert (tmp_path / "timings-Fake-L20-sm-89-10.9.0").read_bytes() == b"tt"


def test_weights_of_the_same_structure_are_put_into_the_twins_plans(tmp_path: Path) -> None:
    compiler = FakeTensorRt()
    plans = build(tmp_path, compiler)
    twin = Twin(exported(tmp_path), plans)
    music = build(tmp_path, compiler, seed=1, key="music", twin=twin)
    assert (len(compiler.compiled), compiler.refits) == (1, 1)
    assert music.read("toy.plan") != plans.read("toy.plan")


def test_the_structure_is_that_of_all_weights_and_of_no_other_graph() -> None:
    assert structure(toy_model(0)) == structure(toy_model(1))
    assert structure(toy_model(0)) != structure(toy_model(0, operator="Tanh"))


def test_a_graph_that_is_refused_is_named(tmp_path: Path) -> None:
    class Refusing(FakeTensorRt):
        def compile(self, *_: object) -> None:  # type: ignore[override]  # never returns
            raise CheckpointError("no kernel for node 3")

    with pytest.raises(CheckpointError, match=r"toy\.onnx in float16: no kernel"):
        build(tmp_path, Refusing())
    assert not list(tmp_path.glob(f"{ROOM}-plans-*/"))


@pytest.mark.parametrize("distance", [0.06, float("nan"), float("inf")])
def test_beyond_the_bound_nothing_is_kept(tmp_path: Path, distance: float) -> None:
    compiler = FakeTensorRt()
    with pytest.raises(CheckpointError, match="build with a higher precision"):
        build(tmp_path, compiler, distance=distance)
    with pytest.raises(MissingFileError):
        open_plans(tmp_path, ROOM, GRAPHS_KEY, "float16", opener=compiler, accelerator=FakeAccelerator())


def test_a_room_opens_the_plans_of_its_own_device_version_and_precision(tmp_path: Path) -> None:
    build(tmp_path, FakeTensorRt())
    opened = open_plans(tmp_path, ROOM, GRAPHS_KEY, "float16", opener=FakeTensorRt(), accelerator=FakeAccelerator())
    y = torch.empty(1, 3, 8)
    opened(SPEC).run({"x": torch.zeros(1, 3, 8), "ids": torch.arange(3)}, {"y": y, "doubled": torch.arange(3)})
    assert torch.allclose(y, torch.full_like(y, 1 / 8), atol=1e-3)
    for opener, precision in ((FakeTensorRt(version="11.0.0"), "float16"), (FakeTensorRt(), "bfloat16")):
        with pytest.raises(MissingFileError, match="does not exist"):
            open_plans(tmp_path, ROOM, GRAPHS_KEY, precision, opener=opener, accelerator=FakeAccelerator())  # type: ignore[arg-type]  # a name of a precision


def test_plans_whose_record_is_beyond_the_bound_are_not_served(tmp_path: Path) -> None:
    def careless(target: Path) -> dict[str, GraphRecord]:
        gate = Gate("the toy's sound", 1.0, 0.05)
        (target / GATE_FILE).write_text(gate.written())
        return {GATE_FILE: GraphRecord(gate.parity(), {})}

    key = plans_key(GRAPHS_KEY, FakeTensorRt(), "float16")
    ensure_graphs(tmp_path, plans_room(ROOM), key, careless)
    with pytest.raises(CheckpointError, match=r"is 1 from torch, more than 0\.05"):
        open_plans(tmp_path, ROOM, GRAPHS_KEY, "float16", opener=FakeTensorRt(), accelerator=FakeAccelerator())


def test_a_record_that_was_changed_is_damaged(tmp_path: Path) -> None:
    plans = build(tmp_path, FakeTensorRt())
    assert check_gate(plans).distance == 0.01
    (plans.path / GATE_FILE).write_text((plans.path / GATE_FILE).read_text().replace("0.05", "5.0"))
    with pytest.raises(CorruptFileError):
        check_gate(plans)


def test_plans_run_on_cuda_alone_and_where_tensorrt_is_installed(tmp_path: Path) -> None:
    with pytest.raises(InvalidOptionError, match="on cpu"):
        open_on_device(tmp_path, ROOM, GRAPHS_KEY, "float16", "cpu")
    with pytest.raises(InvalidOptionError, match="tensorrt, which is not installed"):
        open_on_device(tmp_path, ROOM, GRAPHS_KEY, "float16", "cuda")


def test_the_log_mel_tells_a_louder_wave_and_a_shorter_one() -> None:
    wave = torch.sin(torch.arange(22_050) * 0.1) * 0.1
    assert log_mel_distance(wave, wave) == 0
    assert 0.3 < log_mel_distance(wave, 3 * wave) < 1.2
    assert log_mel_distance(wave, wave[1:]) == float("inf")
    rows = torch.ones(3, 4)
    assert relative_distance(rows, 1.5 * rows) == pytest.approx(0.5)
    assert relative_distance(rows, rows[1:]) == float("inf")
