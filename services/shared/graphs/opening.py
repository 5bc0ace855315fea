"""Opening a room's exported graphs as its composition root was told to."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from services.shared.graphs.cache import GraphFolder
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
        tensorrt: compile with TensorRT what it can compile.
    """

    cache: Path
    device: str = "cpu"
    threads: int = 1
    tensorrt: bool = False


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
