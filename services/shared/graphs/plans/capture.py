"""CUDA graphs by torch, for `PlanSession`. Every line needs a CUDA device."""

from collections.abc import Callable

import torch
from torch import Tensor


class CudaAccelerator:
    """One CUDA device of torch.

    Args:
        device: as torch names it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def stream(self) -> int:
        """Handle of the current stream."""
        return torch.cuda.current_stream(self._device).cuda_stream

    def empty(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Memory of the device."""
        return torch.empty(shape, dtype=like.dtype, device=self._device)

    def capture(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """Run once on a stream of its own, as a plan's first run after new shapes may not be captured; then record."""
        side = torch.cuda.Stream(self._device)
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(side):
            work()
        side.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):
            work()
        torch.cuda.current_stream(self._device).wait_stream(side)
        return graph
