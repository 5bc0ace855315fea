"""An open graph, run on torch tensors without a copy: inputs and outputs are bound where they lie, on CPU or GPU.

The caller owns all memory, outputs too, whose shapes it knows from the inputs'. So a loop can swap two buffers, and no
result passes through the host on its way to the next graph.

Source: IO binding of ONNX Runtime.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor

from services.shared.errors import CorruptFileError, InvalidOptionError, ShapeMismatchError
from services.shared.graphs.providers import Provider, check_available

_ELEMENTS: Final[Mapping[torch.dtype, type[np.generic]]] = {
    torch.float32: np.float32,
    torch.float16: np.float16,
    torch.int64: np.int64,
    torch.bool: np.bool_,
}


@dataclass(frozen=True, slots=True)
class Runtime:
    """On what graphs run.

    Attributes:
        device: where the tensors lie.
        providers: as `providers_for` gives them.
        threads: of each graph's own pool.
    """

    device: torch.device
    providers: tuple[Provider, ...]
    threads: int = 1


class GraphSession:
    """One graph, ready to run; it may be used by several threads at once.

    Args:
        model: the bytes of the ONNX file.
        source: the file, for messages.
        runtime: on what it runs.

    Raises:
        InvalidOptionError: the provider wanted is not there, or did not start.
        CorruptFileError: the bytes are no graph that ONNX Runtime takes.
    """

    def __init__(self, model: bytes, source: Path, runtime: Runtime) -> None:
        check_available(runtime.providers)
        wanted = [(provider.name, dict(provider.options)) for provider in runtime.providers]
        try:
            self._session: Any = ort.InferenceSession(model, _options(runtime.threads), providers=wanted)
        except Exception as error:  # onnxruntime raises its own untyped exceptions
            raise CorruptFileError(f"{source} cannot be opened ({error}); export the graphs again") from error
        if self._session.get_providers()[0] != wanted[0][0]:
            raise InvalidOptionError(f"{wanted[0][0]} did not start, see the log above; its libraries may be missing")
        self._source = source
        self._device = runtime.device

    def run(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """Run the graph once.

        Args:
            inputs: name -> tensor on the runtime's device.
            outputs: name -> contiguous tensor there, of the right shape; overwritten. None of them is an input.

        Raises:
            ShapeMismatchError: the graph does not take or give such tensors.
        """
        held = {name: tensor.contiguous() for name, tensor in inputs.items()}
        binding = self._session.io_binding()
        if self._device.type == "cuda":  # the provider has a stream of its own
            torch.cuda.current_stream(self._device).synchronize()
        try:
            for name, tensor in held.items():
                binding.bind_input(name, *self._place(tensor))
            for name, tensor in outputs.items():
                binding.bind_output(name, *self._place(tensor))
            self._session.run_with_iobinding(binding)
        except Exception as error:  # as above
            shapes = {name: list(tensor.shape) for name, tensor in {**held, **outputs}.items()}
            raise ShapeMismatchError(f"{self._source} does not run on {shapes}: {error}") from error
        binding.synchronize_outputs()

    def _place(self, tensor: Tensor) -> tuple[str, int, type[np.generic], list[int], int]:
        """Device, its number, element type, shape and address, as bindings take them."""
        kind, number = self._device.type, self._device.index or 0
        return kind, number, _ELEMENTS[tensor.dtype], list(tensor.shape), tensor.data_ptr()


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Rooms share their cores with other processes: a thread that has nothing to do sleeps.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
