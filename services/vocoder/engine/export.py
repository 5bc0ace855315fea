"""A vocoder folder's networks as checked ONNX files: `ensure_vocoder_graphs`.

Each graph is written, then run beside its torch module on short and long inputs, of one stream and of several; one that
differs is not kept. Weights come through the room's own loaders, in float32.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from services.shared.graphs.cache import GraphFolder, GraphRecord, Parity, ensure_graphs
from services.shared.graphs.export import check_parity, export_graph
from services.shared.graphs.spec import GraphSpec, shape_profiles
from services.shared.paths import MUSIC_VOCODER_FOLDER, TTS_FOLDER, VOCODER_FOLDER
from services.vocoder import graphs
from services.vocoder.config import VocoderConfig, load_config
from services.vocoder.engine import modules
from services.vocoder.engine.profiles import stream_ranges
from services.vocoder.flow import Flow, load_flow
from services.vocoder.hift import HiFT, load_hift

PARITY_BOUND: Final = 1e-4
"""Of the largest difference, relative to the largest value: float32 sums in another order, through every layer."""
_WAVE_BOUND: Final = 1e-3
"""The same for the wave, 60 dB below full scale: the exponential before the last transform makes differences grow."""
_EXAMPLE: Final = (2, 38)
"""Streams and frames that the exporter sees: above 1, and different, so that it takes neither for a constant."""
_SAMPLES: Final = ((1, 1), (1, 36), (1, 137), (3, 50))
"""Streams and frames of the check: one frame, odd and even windows, several streams."""


@dataclass(frozen=True, slots=True)
class _Export:
    """A graph to write: its spec, its module, and what makes inputs for so many streams and frames."""

    spec: GraphSpec
    module: nn.Module
    inputs: Callable[[int, int], Mapping[str, Tensor]]
    bound: float = PARITY_BOUND


def ensure_vocoder_graphs(folder: str | Path, cache: Path) -> GraphFolder:
    """The exported graphs of a vocoder folder, made if they are absent, out of date or damaged.

    Args:
        folder: the public layout of a vocoder.
        cache: where graphs are kept.

    Raises:
        CheckpointError: the folder cannot be used, or a graph is not its network.
    """

    def build(target: Path) -> Mapping[str, GraphRecord]:
        return export_networks(load_config(folder), load_flow(folder), load_hift(folder), target)

    return ensure_graphs(cache, graphs.ROOM, graphs.graphs_key(folder), build)


def ensure_all_graphs(checkpoints: Path, cache: Path) -> GraphFolder:
    """The graphs of the vocoder and, where it was downloaded, of the one for music.

    Args:
        checkpoints: the folder of the three public folders.
        cache: where graphs are kept.

    Returns:
        those of the vocoder for speech.

    Raises:
        CheckpointError: as `ensure_vocoder_graphs`.
    """
    music = checkpoints / TTS_FOLDER / MUSIC_VOCODER_FOLDER
    if music.is_dir():
        ensure_vocoder_graphs(music, cache)
    return ensure_vocoder_graphs(checkpoints / TTS_FOLDER / VOCODER_FOLDER, cache)


def export_networks(config: VocoderConfig, flow: Flow, hift: HiFT, target: Path) -> dict[str, GraphRecord]:
    """Write all graphs of these networks into a folder.

    Args:
        config: of the vocoder.
        flow, hift: finished, in float32 on the CPU.
        target: the folder.

    Returns:
        file name -> how far it is from torch, and its shapes.

    Raises:
        CheckpointError: a graph is not its network.
    """
    ranges = stream_ranges(flow, hift)
    return {
        export.spec.file: GraphRecord(_write(export, target), shape_profiles(export.spec, ranges))
        for export in _exports(config, flow, hift)
    }


def _exports(config: VocoderConfig, flow: Flow, hift: HiFT) -> Iterator[_Export]:
    generator = torch.Generator().manual_seed(0)

    def of_flow(streams: int, frames: int) -> Mapping[str, Tensor]:
        return modules.flow_inputs(flow, streams, frames, generator)

    def of_hift(_streams: int, frames: int) -> Mapping[str, Tensor]:
        return modules.hift_inputs(hift, frames, generator)

    yield _Export(graphs.flow_encoder(), modules.FlowEncoderGraph(flow), of_flow)
    yield _Export(graphs.flow_conditions(config), modules.FlowConditionsGraph(flow), of_flow)
    yield _Export(graphs.flow_step(config), modules.FlowStepGraph(flow), of_flow)
    yield _Export(graphs.hift_f0(), modules.HiftF0Graph(hift), of_hift)
    yield _Export(graphs.hift_wave(), modules.HiftWaveGraph(hift), of_hift, _WAVE_BOUND)


def _write(export: _Export, target: Path) -> Parity:
    def pick(streams: int, frames: int) -> dict[str, Tensor]:
        made = export.inputs(streams, frames)
        return {name: made[name] for name in export.spec.inputs}

    path = target / export.spec.file
    export_graph(export.module, export.spec, pick(*_EXAMPLE), path)
    samples = [pick(*size) for size in _SAMPLES]
    return check_parity(export.module, export.spec, path, samples, bound=export.bound)
