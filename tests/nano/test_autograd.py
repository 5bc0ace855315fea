"""At which precision gradients are taken."""

import pytest
import torch
from torch.nn import functional as F

from services.nano.training.autograd import half_precision

pytestmark = pytest.mark.unit


def test_products_are_taken_in_bfloat16_and_attention_in_float32() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(8, 8)
    queries, keys, values = (torch.randn(1, 2, 5, 8, requires_grad=True) for _ in range(3))
    mask = torch.randn(1, 2, 5, 5)
    wanted = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    with half_precision():
        assert linear(torch.randn(3, 8)).dtype == torch.bfloat16
        found = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        rounded = F.scaled_dot_product_attention(queries.bfloat16(), keys.bfloat16(), values.bfloat16(), attn_mask=mask)
        assert linear(found).dtype == torch.bfloat16
    assert torch.equal(found, wanted)
    assert rounded.dtype == torch.float32
    found.sum().backward()
    assert queries.grad is not None
    assert linear(torch.randn(3, 8)).dtype == torch.float32
