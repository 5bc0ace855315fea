"""A module becomes a graph that is the module, or nothing."""

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from services.shared.errors import CheckpointError, CorruptFileError, InvalidOptionError, ShapeMismatchError
from services.shared.graphs.export import OPSET, check_parity, export_graph
from services.shared.graphs.providers import Provider, providers_for
from services.shared.graphs.session import GraphSession, Runtime
from services.shared.graphs.spec import GraphSpec

SPEC = GraphSpec("toy", {"x": ("B", 4, "T"), "gain": (1,)}, {"y": ("B", 4, "T"), "sums": ("B", 4)})
CPU = Runtime(torch.device("cpu"), providers_for("cpu"))


class Toy(nn.Module):
    """y = gain * linear(x) over channels, and its sums over time."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4, generator=torch.Generator().manual_seed(seed)))

    def forward(self, x: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        y = gain * (self.weight @ x)
        return y, y.sum(dim=2)


class Fixing(Toy):
    """Takes the batch for a constant, as code that asks for a plain number does."""

    def forward(self, x: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        y, sums = super().forward(x, gain)
        return y + torch.ones(len(x), 1, 1), sums


def inputs(streams: int, frames: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(streams + frames)
    return {"x": torch.randn(streams, 4, frames, generator=generator), "gain": torch.full((1,), 0.5)}


@pytest.fixture(scope="module")
def toy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxscript")
    path = tmp_path_factory.mktemp("toy") / SPEC.file
    export_graph(Toy(), SPEC, inputs(2, 5), path)
    return path


@pytest.mark.unit
def test_the_file_has_the_fixed_opset_the_axes_of_the_spec_and_no_trace_of_the_machine(toy_file: Path) -> None:
    model = onnx.load(str(toy_file))
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    axes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert axes == [["B", 4, "T"], [1], ["B", 4, "T"], ["B", 4]]
    assert b".py" not in toy_file.read_bytes()


@pytest.mark.unit
def test_the_graph_is_its_module_at_lengths_that_the_exporter_never_saw(toy_file: Path) -> None:
    parity = check_parity(Toy(), SPEC, toy_file, [inputs(1, 1), inputs(3, 40)], bound=1e-6)
    assert parity.mean_difference <= parity.max_difference < 1e-5 < parity.scale


@pytest.mark.unit
def test_a_graph_of_other_weights_is_refused(toy_file: Path) -> None:
    with pytest.raises(CheckpointError, match="from torch"):
        check_parity(Toy(seed=1), SPEC, toy_file, [inputs(1, 4)], bound=1e-4)


@pytest.mark.unit
def test_a_free_axis_that_the_exporter_fixed_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    with pytest.raises(CheckpointError, match="toy has y"):
        export_graph(Fixing(), SPEC, inputs(2, 5), tmp_path / SPEC.file)


@pytest.mark.unit
def test_results_are_written_where_the_caller_wants_them(toy_file: Path) -> None:
    session = GraphSession(toy_file.read_bytes(), toy_file, CPU)
    made = inputs(2, 6)
    whole = torch.full((3, 2, 4, 6), 7.0)
    outputs = {"y": whole[1], "sums": torch.empty(2, 4)}
    session.run({**made, "x": made["x"].transpose(1, 2).contiguous().transpose(1, 2)}, outputs)
    expected, sums = Toy()(*made.values())
    torch.testing.assert_close(whole[1], expected)
    torch.testing.assert_close(outputs["sums"], sums)
    assert bool((whole[::2] == 7.0).all())


@pytest.mark.unit
def test_tensors_that_do_not_fit_are_refused_with_their_shapes(toy_file: Path) -> None:
    session = GraphSession(toy_file.read_bytes(), toy_file, CPU)
    outputs = {"y": torch.empty(1, 4, 3), "sums": torch.empty(1, 4)}
    with pytest.raises(ShapeMismatchError, match=r"\[1, 5, 3\]"):
        session.run({"x": torch.zeros(1, 5, 3), "gain": torch.zeros(1)}, outputs)
    with pytest.raises(ShapeMismatchError):
        session.run({"x": torch.zeros(1, 4, 9), "gain": torch.zeros(1)}, outputs)


@pytest.mark.unit
def test_bytes_that_are_no_graph_and_providers_that_are_not_there_are_refused(toy_file: Path) -> None:
    with pytest.raises(CorruptFileError, match="export the graphs again"):
        GraphSession(toy_file.read_bytes()[:100], toy_file, CPU)
    with pytest.raises(InvalidOptionError):
        GraphSession(toy_file.read_bytes(), toy_file, Runtime(torch.device("cpu"), (Provider("NoSuchProvider"),)))
