"""A tokenizer folder's encoder as a checked ONNX file: `ensure_tokenizer_graphs`.

The graph is written, then run beside its torch module on one window and on many, with and without absent rows; one that
differs is not kept. Weights come through the room's own loader, in float32.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch

from services.shared.graphs.cache import GraphFolder, GraphRecord, ensure_graphs
from services.shared.graphs.export import check_parity, export_graph
from services.shared.graphs.spec import shape_profiles
from services.tokenizer import graphs
from services.tokenizer.engine.modules import LinguisticEncoderGraph, encoder_inputs
from services.tokenizer.engine.profiles import RANGES
from services.tokenizer.paraformer.linguistic import load_linguistic_encoder
from services.tokenizer.paraformer.sanm import SanmEncoder

PARITY_BOUND: Final = 1e-4
"""Of the largest difference, relative to the largest value: float32 sums in another order, through every layer."""
_EXAMPLE_WINDOWS: Final = 3
_SAMPLES: Final = ((1, 3), (1, 0), (2, 1), (17, 2))
"""Windows of the check, and how much of them is absent."""


def ensure_tokenizer_graphs(folder: str | Path, cache: Path) -> GraphFolder:
    """The exported graph of a Step-Audio-Tokenizer folder, made if it is absent, out of date or damaged.

    Args:
        folder: the public layout of a tokenizer.
        cache: where graphs are kept.

    Raises:
        CheckpointError: the folder cannot be used, or the graph is not its network.
    """

    def build(target: Path) -> Mapping[str, GraphRecord]:
        return export_encoder(load_linguistic_encoder(folder).encoder, target)

    return ensure_graphs(cache, graphs.ROOM, graphs.graphs_key(folder), build)


def export_encoder(encoder: SanmEncoder, target: Path) -> dict[str, GraphRecord]:
    """Write the graph of this encoder into a folder.

    Args:
        encoder: in evaluation mode, in float32 on the CPU.
        target: the folder.

    Returns:
        file name -> how far it is from torch, and its shapes.

    Raises:
        CheckpointError: the graph is not its network.
    """
    generator = torch.Generator().manual_seed(0)
    spec, module = graphs.linguistic_encoder(encoder.config), LinguisticEncoderGraph(encoder)
    path = target / spec.file
    export_graph(module, spec, encoder_inputs(encoder, _EXAMPLE_WINDOWS, generator, hidden=0), path)
    samples = [encoder_inputs(encoder, windows, generator, hidden=hidden) for windows, hidden in _SAMPLES]
    parity = check_parity(module, spec, path, samples, bound=PARITY_BOUND)
    return {spec.file: GraphRecord(parity, shape_profiles(spec, RANGES))}
