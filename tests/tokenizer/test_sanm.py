"""The encoder that takes all chunks at once: names of the public weights, equality with the plain loop, causality."""

import json

import pytest
import torch
from torch import Tensor

from benchmarks.released.paraformer import encode_as_released
from services.tokenizer.paraformer.config import EncoderConfig
from services.tokenizer.paraformer.frontend import OnlineFrontEnd
from services.tokenizer.paraformer.linguistic import LinguisticEncoder
from services.tokenizer.paraformer.quantizer import KMeansQuantizer
from services.tokenizer.paraformer.sanm import SanmEncoder
from tests.conftest import DATA

pytestmark = pytest.mark.unit

PUBLISHED = EncoderConfig(output_size=512, attention_heads=4, linear_units=2048, num_blocks=50)
SMALL = EncoderConfig(output_size=32, attention_heads=2, linear_units=48, num_blocks=3)


@pytest.fixture(scope="module")
def network() -> SanmEncoder:
    torch.manual_seed(0)
    return SanmEncoder(SMALL).eval().requires_grad_(False)


def features(rows: int) -> Tensor:
    return torch.randn(rows, 560, generator=torch.Generator().manual_seed(rows))


def test_names_and_shapes_are_those_of_the_public_weights() -> None:
    published = json.loads((DATA / "state_dicts" / "paraformer_encoder.json").read_text())
    with torch.device("meta"):
        network = SanmEncoder(PUBLISHED)
    ours = {f"encoder.{name}": list(value.shape) for name, value in network.state_dict().items()}
    assert ours == published
    assert len(ours) == 652
    assert sum(value.numel() for value in network.parameters()) == 157_975_648


@pytest.mark.parametrize("samples", [880, 3840, 4719, 5000, 3840 * 7, 3840 * 9 + 1234])
def test_all_chunks_at_once_equal_the_plain_loop(network: SanmEncoder, samples: int) -> None:
    front_end = OnlineFrontEnd(torch.full((560,), -8.0), torch.full((560,), 0.2), dither=0.0, released_quirks=False)
    encoder = LinguisticEncoder(front_end, network, KMeansQuantizer(torch.randn(1024, 32)))
    audio = torch.randn(samples, generator=torch.Generator().manual_seed(samples)) * 0.1
    fast, _ = encoder.encode(audio, encoder.initial_state(), final=True)
    plain = encode_as_released(encoder, audio)
    assert fast.shape == plain.shape
    assert len(fast) > 0
    assert torch.allclose(fast, plain, atol=2e-5)


@pytest.mark.parametrize("sizes", [[4] * 9, [8, 4, 24], [16, 20], [36]])
@pytest.mark.parametrize("tail", [0, 1, 3])
def test_the_memory_carries_over_between_calls(network: SanmEncoder, sizes: list[int], tail: int) -> None:
    x = features(36 + tail)
    whole, _ = network(x, network.initial_state())
    state, rows = network.initial_state(), []
    for piece in x.split([*sizes, tail] if tail else sizes):
        got, state = network(piece, state)
        rows.append(got)
    assert torch.allclose(torch.cat(rows), whole, atol=2e-5)


def test_a_row_does_not_depend_on_later_chunks_but_on_earlier_ones(network: SanmEncoder) -> None:
    x = features(40)
    changed = x.clone()
    changed[20:] += 1.0
    before, _ = network(x, network.initial_state())
    after, _ = network(changed, network.initial_state())
    assert torch.allclose(before[:20], after[:20], atol=1e-6)
    assert (before[20:] - after[20:]).abs().amin(dim=1).max() > 0
    changed = x.clone()
    changed[0] += 1.0
    after, _ = network(changed, network.initial_state())
    assert not torch.equal(before[8], after[8])


def test_a_call_leaves_its_state_as_it_was(network: SanmEncoder) -> None:
    _, state = network(features(8), network.initial_state())
    kept = [state.overlap.clone(), state.memory.clone()]
    first, _ = network(features(12), state)
    second, _ = network(features(12), state)
    assert torch.equal(first, second)
    assert torch.equal(state.overlap, kept[0])
    assert torch.equal(state.memory, kept[1])
