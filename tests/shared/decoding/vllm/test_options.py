"""Which models can be cut up which way."""

from dataclasses import replace
from typing import Any

import pytest

from services.shared.decoding.vllm.options import VllmOptions
from services.shared.errors import InvalidOptionError
from services.shared.step1_config import Step1Config
from tests.shared.step1.sizes import TTS_3B

pytestmark = pytest.mark.unit

CHAT = replace(TTS_3B, hidden_size=12_288, num_attention_heads=96, num_attention_groups=8, num_hidden_layers=88)


@pytest.mark.parametrize(("sizes", "shares"), [(TTS_3B, (1, 2, 4, 8, 16)), (CHAT, (1, 2, 4, 8, 16, 32))])
def test_layers_are_shared_by_as_many_devices_as_divide_heads_and_groups(
    sizes: Step1Config, shares: tuple[int, ...]
) -> None:
    taken = []
    for count in range(1, 65):
        try:
            VllmOptions(tensor_parallel=count).check(sizes)
            taken.append(count)
        except InvalidOptionError:
            pass
    assert set(shares) <= set(taken)
    assert not {3, 5, 6, 7, 10, 64} & set(taken)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tensor_parallel": 3}, "tensor_parallel is 3"),
        ({"pipeline_parallel": 33}, "33; the model has 32 layers"),
        ({"context_tokens": 32_769}, "max_seq_len is 32768"),
        ({"weights": "fp8", "dtype": "float32"}, "use bfloat16"),
    ],
)
def test_options_that_do_not_fit_the_model_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOptionError, match=said):
        VllmOptions(**options).check(TTS_3B)


def test_the_context_is_the_models_unless_a_shorter_one_is_asked_for() -> None:
    assert VllmOptions().context_of(TTS_3B) == 32_768
    assert VllmOptions(context_tokens=8192).context_of(TTS_3B) == 8192
