"""An open plan runs on torch tensors; shapes that come again are captured."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor

from services.shared.errors import ShapeMismatchError
from services.shared.graphs.plans.buckets import buckets_of
from services.shared.graphs.plans.port import Recipe
from services.shared.graphs.plans.session import CAPTURED_AT_MOST, PlanSession
from services.shared.graphs.spec import AxisRange
from tests.fakes.tensorrt import FakeAccelerator, FakePlan, FakeTensorRt
from tests.shared.graphs.plans.toy import RANGES, SPEC, toy_model

pytestmark = pytest.mark.unit


class Bench:
    """A session on a fake plan, and what it is compared with."""

    def __init__(self, *, capture: bool = True, most: int = 20) -> None:
        ranges = {**RANGES, "T": AxisRange(1, 6, most)}
        compiler = FakeTensorRt()
        recipe = Recipe(buckets_of(SPEC, ranges, shared={"B": 1}))
        self.plan: FakePlan = compiler.open(compiler.compile(toy_model(), recipe, b"").plan)
        self.accelerator = FakeAccelerator()
        self.session = PlanSession(self.plan, "toy", self.accelerator, capture=capture)
        self._reference = ort.InferenceSession(toy_model(), providers=["CPUExecutionProvider"])

    def run(self, streams: int, frames: int, seed: int = 0) -> Tensor:
        """Run on random input, compare with the graph, return the place of the result."""
        x = torch.randn(streams, frames, 8, generator=torch.Generator().manual_seed(seed))
        outputs = {"y": torch.full_like(x, 7.0), "doubled": torch.zeros(frames, dtype=torch.int64)}
        self.session.run({"x": x, "ids": torch.arange(frames)}, outputs)
        expected, doubled = self._reference.run(None, {"x": x.numpy(), "ids": np.arange(frames)})
        np.testing.assert_allclose(outputs["y"].numpy(), expected, atol=1e-6)
        assert outputs["doubled"].tolist() == doubled.tolist()
        return outputs["y"]


def test_results_are_those_of_the_graph_alone_and_shared() -> None:
    bench = Bench()
    for streams, frames in ((1, 1), (1, 20), (2, 3), (4, 20)):
        bench.run(streams, frames)
    assert bench.accelerator.captures == 0


def test_a_shape_is_captured_the_second_time_and_replayed_from_the_third_on() -> None:
    bench = Bench()
    for seed in range(5):
        bench.run(1, 6, seed)
    assert (bench.accelerator.captures, bench.accelerator.replays) == (1, 3)
    bench.run(1, 7)
    assert bench.session.captured == 1


def test_a_replay_writes_where_this_caller_wants_it() -> None:
    bench = Bench()
    first, second, third, fourth = (bench.run(1, 6, seed) for seed in range(4))
    kept = third.clone()
    bench.run(1, 6, 9)
    assert torch.equal(third, kept)
    assert len({tensor.data_ptr() for tensor in (first, second, third, fourth)}) == 4


def test_each_captured_run_has_an_execution_of_its_own_and_all_share_one_scratch() -> None:
    bench = Bench()
    for _ in range(2):
        bench.run(1, 6)
        bench.run(2, 6)
    assert bench.plan.executions == 2 + 2
    assert len(bench.plan.scratches) == 1


def test_only_so_many_captured_runs_are_kept_and_the_longest_unused_one_goes() -> None:
    bench = Bench(most=CAPTURED_AT_MOST + 1)
    for frames in range(1, CAPTURED_AT_MOST + 1):
        bench.run(1, frames), bench.run(1, frames)
    bench.run(1, 1)
    bench.run(1, CAPTURED_AT_MOST + 1), bench.run(1, CAPTURED_AT_MOST + 1)
    assert bench.session.captured == CAPTURED_AT_MOST
    replays = bench.accelerator.replays
    bench.run(1, 1)
    assert bench.accelerator.replays == replays + 1
    bench.run(1, 2)
    assert bench.accelerator.replays == replays + 1, "the longest unused one has gone"


def test_nothing_is_captured_where_that_is_not_wanted() -> None:
    bench = Bench(capture=False)
    for _ in range(3):
        bench.run(1, 6)
    assert bench.accelerator.captures == 0


def test_inputs_need_not_be_contiguous() -> None:
    bench = Bench()
    x = torch.randn(1, 8, 6).transpose(1, 2)
    outputs = {"y": torch.empty(1, 6, 8), "doubled": torch.zeros(6, dtype=torch.int64)}
    bench.session.run({"x": x, "ids": torch.arange(6)}, outputs)
    again = {name: torch.empty_like(value) for name, value in outputs.items()}
    bench.session.run({"x": x.contiguous(), "ids": torch.arange(6)}, again)
    assert torch.equal(outputs["y"], again["y"])


def test_lengths_outside_every_bucket_are_refused_with_their_shapes() -> None:
    bench = Bench()
    with pytest.raises(ShapeMismatchError, match=r"toy holds .*\(1, 21, 8\)"):
        bench.session.run({"x": torch.zeros(1, 21, 8), "ids": torch.arange(21)}, {})
