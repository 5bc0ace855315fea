"""Gradients through rooms that were written for inference, and at which precision they are taken.

The rooms save memory by adding in place, and take the result of the call (`rows = rows.add_(…)`). Gradients need the
old values, so inside `out_of_place` such a call adds into new memory. A room that adds in place and drops the result
would compute something else: each network that is trained this way has a test that it does not.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Function = Callable[..., Any]
"""Any function of torch."""


class Replacing(TorchFunctionMode):
    """`with Replacing({a: b}):` calls b wherever a function a of torch would be called."""

    def __init__(self, replaced: Mapping[Function, Function]) -> None:
        super().__init__()
        self._replaced = replaced

    def __torch_function__(
        self,
        func: Function,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch for each of its functions."""
        return self._replaced.get(func, func)(*args, **(kwargs or {}))


def out_of_place() -> Replacing:
    """`with out_of_place():` turns `a.add_(b)` into `a.add(b)`."""
    return Replacing({Tensor.add_: Tensor.add})


@contextmanager
def half_precision() -> Iterator[None]:
    """Matrix products and convolutions in bfloat16, which this recipe's CPUs have instructions for.

    Attention stays in float32: torch's gradient of it for CPUs takes four times as long in bfloat16.
    """
    with torch.autocast("cpu", torch.bfloat16), Replacing({F.scaled_dot_product_attention: _single_attention}):
        yield


def _single_attention(*args: object, **kwargs: object) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        options = {name: _single(value) for name, value in kwargs.items()}
        out: Tensor = F.scaled_dot_product_attention(*map(_single, args), **options)  # type: ignore[arg-type]
    return out


def _single(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
