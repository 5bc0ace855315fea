"""The linguistic encoder by a plan gives the rows of torch, or is not kept; TensorRT is a fake."""

from pathlib import Path

import pytest
import torch

from services.shared.errors import CheckpointError
from services.shared.graphs.opening import GraphSettings
from services.shared.graphs.plans.command import Workshop
from services.shared.graphs.plans.gate import check_gate
from services.tokenizer.engine.build import ensure_tokenizer_plans
from tests.fakes.tensorrt import FakeAccelerator, FakeTensorRt, louder
from tests.tokenizer.engine.test_export import settings as settings  # the graphs, exported once

pytestmark = pytest.mark.unit


def workshop(cache: Path, builder: FakeTensorRt) -> Workshop:
    return Workshop(builder, FakeAccelerator(), torch.device("cpu"), cache, "float16")


def test_rows_by_a_plan_are_within_the_bound_of_torch(golden_folder: Path, settings: GraphSettings) -> None:
    builder = FakeTensorRt()
    gate = check_gate(ensure_tokenizer_plans(golden_folder, workshop(settings.cache, builder)))
    print(f"rows {gate.distance:.2e} from torch")
    assert 0 < gate.distance < gate.bound
    (recipe,) = builder.compiled
    alone, shared = recipe.buckets
    assert (alone["windows"].most[0], shared["windows"].least[0]) == (1, 2)


def test_a_compiler_that_computes_something_else_is_found_out(golden_folder: Path, settings: GraphSettings) -> None:
    careless = FakeTensorRt(version="careless")
    careless.spoil = louder
    with pytest.raises(CheckpointError, match="rows of the linguistic encoder"):
        ensure_tokenizer_plans(
            golden_folder, Workshop(careless, FakeAccelerator(), torch.device("cpu"), settings.cache, "float32")
        )
