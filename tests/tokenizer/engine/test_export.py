"""The linguistic encoder by its exported graph is the one by torch, whatever the pushes."""

from pathlib import Path

import pytest
import torch

from services.shared.errors import InvalidOptionError, MissingFileError
from services.shared.graphs.opening import GraphSettings
from services.tokenizer import LinguisticEncoder, load_linguistic_encoder, load_speech_tokenizer
from services.tokenizer.engine.profiles import RANGES
from services.tokenizer.onnx_networks import OnnxSanmEncoder
from services.tokenizer.paraformer.linguistic import BATCH_CHUNKS
from services.tokenizer.paraformer.sanm import EncoderState, SanmEncoder
from tests.conftest import report

SAMPLES = torch.randn(40_000, generator=torch.Generator().manual_seed(0)) * 0.1


@pytest.fixture(scope="module")
def settings(golden_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> GraphSettings:
    pytest.importorskip("onnxscript")
    from services.tokenizer.engine.export import ensure_tokenizer_graphs  # needs onnx

    made = GraphSettings(tmp_path_factory.mktemp("graphs"))
    ensure_tokenizer_graphs(golden_folder, made.cache)
    return made


def heard(encoder: LinguisticEncoder, push: int) -> torch.Tensor:
    state, rows = encoder.initial_state(), []
    for place in range(0, len(SAMPLES), push):
        last = place + push >= len(SAMPLES)
        encoded, state = encoder.encode(SAMPLES[place : place + push], state, final=last)
        rows.append(encoded)
    return torch.cat(rows)


@pytest.mark.unit
@pytest.mark.parametrize("push", [960, 3840, 11_000, 40_000])
def test_rows_and_codes_are_those_of_torch_for_any_pushes(
    golden_folder: Path, settings: GraphSettings, push: int
) -> None:
    by_torch = load_linguistic_encoder(golden_folder)
    by_graph = load_speech_tokenizer(golden_folder, graphs=settings).linguistic
    assert isinstance(by_graph.encoder, OnnxSanmEncoder)
    rows, expected = heard(by_graph, push), heard(by_torch, len(SAMPLES))
    report(f"rows in pushes of {push}", rows, expected, max_abs=1e-4)
    assert torch.equal(by_graph.quantize(rows), by_torch.quantize(expected))


@pytest.mark.unit
def test_a_state_stays_usable_after_the_call_that_took_it(golden_folder: Path, settings: GraphSettings) -> None:
    encoder = load_speech_tokenizer(golden_folder, graphs=settings).linguistic
    _, state = encoder.encode(SAMPLES[:8000], encoder.initial_state(), final=False)
    first, _ = encoder.encode(SAMPLES[8000:20_000], state, final=False)
    again, _ = encoder.encode(SAMPLES[8000:20_000], state, final=False)
    assert torch.equal(first, again)


@pytest.mark.unit
def test_graphs_run_in_float32_and_only_where_they_were_exported(
    golden_folder: Path, settings: GraphSettings, tmp_path: Path
) -> None:
    with pytest.raises(InvalidOptionError, match="float32"):
        load_speech_tokenizer(golden_folder, dtype=torch.bfloat16, graphs=settings)
    with pytest.raises(MissingFileError, match="not exported"):
        load_speech_tokenizer(golden_folder, graphs=GraphSettings(tmp_path))


@pytest.mark.unit
@pytest.mark.parametrize("push", [960, 3840, 3840 * BATCH_CHUNKS + 3000])
def test_every_call_of_the_network_is_within_the_range(golden_folder: Path, push: int) -> None:
    seen: list[int] = []

    class Recording(SanmEncoder):
        def forward(self, features: torch.Tensor, state: EncoderState) -> tuple[torch.Tensor, EncoderState]:
            seen.append(-(-len(features) // 4))
            return features[:, : self.config.output_size], state

    room = load_linguistic_encoder(golden_folder)
    recording = Recording(room.encoder.config).eval()
    room = LinguisticEncoder(room.front_end, recording, room.quantizer)
    state = room.initial_state()
    for _ in range(3):
        _, state = room.encode(torch.zeros(push), state, final=False)
    room.encode(torch.zeros(3000), state, final=True)
    assert seen
    assert RANGES["W"].least <= min(seen)
    assert max(seen) <= RANGES["W"].most
