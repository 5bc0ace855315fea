"""Opening a room's exported graphs, or the plans that were made of them, as its composition root was told to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import torch
from torch import Tensor

from services.shared.graphs.cache import GraphFolder, find_graphs
from services.shared.graphs.plans.keys import Precision
from services.shared.graphs.plans.opening import open_on_device
from services.shared.graphs.providers import TensorRtOptions, providers_for
from services.shared.graphs.session import GraphSession, Runtime
from services.shared.graphs.spec import GraphSpec

_ENGINES_FOLDER: Final = "tensorrt"
"""Inside the folder of the graphs, so that a stale engine is never found either."""


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """Where a room's graphs are and on what they run.

    Attributes:
        cache: folder of exported graphs.
        device: as torch names it.
        threads: of each graph.
        tensorrt: let ONNX Runtime compile with TensorRT what it can compile.
        plans: precision of the plans that run in place of the graphs; None runs the graphs.
    """

    cache: Path
    device: str = "cpu"
    threads: int = 1
    tensorrt: bool = False
    plans: Precision | None = None


class Session(Protocol):
    """What a network's arithmetic runs on: an open graph or an open plan."""

    def run(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """Run once; results are written into `outputs`, which are the caller's."""


def session_opener(settings: GraphSettings, room: str, graphs_key: str) -> Callable[[GraphSpec], Session]:
    """What opens a room's graphs one by one.

    Args:
        settings: of the composition root.
        room: its name.
        graphs_key: of its graphs.

    Raises:
        MissingFileError, CorruptFileError: they were not made for this checkpoint and code, or are damaged.
        CheckpointError: plans that are further from torch than their bound.
        InvalidOptionError: what they should run on is not there.
    """
    if settings.plans is not None:
        return open_on_device(settings.cache, room, graphs_key, settings.plans, settings.device)
    exported = find_graphs(settings.cache, room, graphs_key)
    return lambda spec: open_graph(exported, spec, settings)


def open_graph(exported: GraphFolder, spec: GraphSpec, settings: GraphSettings) -> GraphSession:
    """Open one graph.

    Raises:
        MissingFileError, CorruptFileError: it is not there, or damaged.
        InvalidOptionError: what it should run on is not there.
    """
    options = None
    if settings.tensorrt:
        options = TensorRtOptions(exported.records[spec.file].profiles, exported.path / _ENGINES_FOLDER)
    providers = providers_for(settings.device, options)
    return GraphSession(
        exported.read(spec.file),
        exported.path / spec.file,
        Runtime(torch.device(settings.device), providers, settings.threads),
    )
