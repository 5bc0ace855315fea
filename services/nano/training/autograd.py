"""Gradients through rooms that were written for inference, and at which precision they are taken.

The rooms save memory by adding in place, and take the result of the call (`rows = rows.add_(…)`). Gradients need the
old values, so inside `out_of_place` such a call adds into new memory. A room that adds in place and drops the result
would compute something else: each network that is trained this way has a test that it does not.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_PURE: Final[Mapping[Callable[..., Any], Callable[..., Any]]] = {Tensor.add_: Tensor.add}


class out_of_place(TorchFunctionMode):  # noqa: N801 - used as a context, like torch.no_grad
    """`with out_of_place():` turns `a.add_(b)` into `a.add(b)`."""

    def __torch_function__(
        self,
        func: Callable[..., Any],  # any function of torch
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch for each of its functions."""
        return _PURE.get(func, func)(*args, **(kwargs or {}))


class _single_precision_attention(TorchFunctionMode):  # noqa: N801 - see out_of_place
    """Attention in float32: torch's gradient of it for CPUs takes four times as long in bfloat16."""

    def __torch_function__(
        self,
        func: Callable[..., Any],  # any function of torch
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch for each of its functions."""
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return func(*map(_single, args), **{name: _single(value) for name, value in kwargs.items()})


@contextmanager
def half_precision() -> Iterator[None]:
    """Matrix products and convolutions in bfloat16, which this recipe's CPUs have instructions for."""
    with torch.autocast("cpu", torch.bfloat16), _single_precision_attention():
        yield


def _single(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
