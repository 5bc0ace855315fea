"""Slopes and biases of sqrt-ALiBi against the numbers of its definition."""

import math

import pytest
import torch

from services.shared.nn.step1.alibi import alibi_slopes, sqrt_alibi_bias

pytestmark = pytest.mark.unit


def defined_slopes(heads: int) -> list[float]:
    n = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * h / n) for h in range(1, n + 1)]
    return slopes + [(2 ** (-4 / n)) ** k for k in range(1, 2 * (heads - n), 2)]


@pytest.mark.parametrize("heads", [1, 2, 4, 6, 8, 12, 40, 48, 96])
def test_slopes_follow_the_definition_for_any_number_of_heads(heads: int) -> None:
    slopes = alibi_slopes(heads)
    assert slopes.shape == (heads,)
    assert slopes.dtype == torch.float32
    assert slopes.tolist() == pytest.approx(defined_slopes(heads), rel=1e-6)


def test_48_heads_take_16_odd_powers() -> None:
    slopes = alibi_slopes(48)
    assert slopes[:2].tolist() == pytest.approx([2**-0.25, 2**-0.5])
    assert slopes[32:34].tolist() == pytest.approx([2**-0.125, 2**-0.375])
    assert slopes[47].item() == pytest.approx(2 ** (-31 / 8))


def test_bias_falls_with_the_root_of_the_distance_and_hides_the_future() -> None:
    slopes = torch.tensor([1.0, 0.5])
    bias = sqrt_alibi_bias(slopes, torch.tensor([[2, 3], [0, 1]]), 4)  # [B=2, H=2, T=2, L=4]
    inf = math.inf
    expected_first_row = [[-math.sqrt(2), -1, 0, -inf], [-math.sqrt(3), -math.sqrt(2), -1, 0]]
    assert bias.shape == (2, 2, 2, 4)
    assert torch.allclose(bias[0, 0], torch.tensor(expected_first_row))
    assert torch.allclose(bias[0, 1], torch.tensor(expected_first_row) / 2)
    assert torch.allclose(bias[1, 0], torch.tensor([[0, -inf, -inf, -inf], [-1, 0, -inf, -inf]]))
