"""The vocoder's networks as TensorRT plans: `python -m services.vocoder.engine.build [--precision float16]`.

    flow_encoder, flow_conditions, flow_step   in the precision asked for; they are nearly all of the time
    hift_f0, hift_wave                         float32: a pitch that is a little off is heard, a phase too

Speech of a fixed utterance, with and without a voice's clip, by the plans and by torch must have nearly one log-mel.
The vocoder for music has the same networks: where its folder is there, its weights are put into the same plans.

Needs the extra `engine`, TensorRT and a CUDA device; everything but their calls is tested without.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from services.shared.graphs.cache import GraphFolder
from services.shared.graphs.plans.buckets import buckets_of
from services.shared.graphs.plans.command import Workshop, run_build
from services.shared.graphs.plans.gate import Gate, log_mel_distance
from services.shared.graphs.plans.keys import Precision
from services.shared.graphs.plans.scales import activation_scales
from services.shared.graphs.plans.session import PlanSession
from services.shared.graphs.plans.store import PlanOrder, PlanPlace, Twin, ensure_plans
from services.shared.graphs.spec import GraphSpec
from services.shared.paths import MUSIC_VOCODER_FOLDER, TTS_FOLDER, VOCODER_FOLDER
from services.vocoder import graphs
from services.vocoder.config import MEL_CHANNELS, VocoderConfig, load_config
from services.vocoder.engine import modules
from services.vocoder.engine.export import ensure_vocoder_graphs
from services.vocoder.engine.profiles import stream_ranges
from services.vocoder.flow import Flow, load_flow
from services.vocoder.hift import HiFT, load_hift
from services.vocoder.onnx_networks import by_sessions
from services.vocoder.vocoder import Vocoder, load_vocoder
from services.vocoder.voice import VoiceFeatures

LOG_MEL_BOUND: Final = 0.05
"""Mean difference of the logarithms: another seed differs by 0.25, the release's own bfloat16 by 0.02."""
SHARED_AXES: Final = {"B": 1, "2B": 2}
"""Axis that counts streams -> its rows for each."""
_WIDE_GRAPHS: Final = frozenset({"hift_f0", "hift_wave"})
_SCALED_GRAPH: Final = "flow_step"
_UTTERANCE_TOKENS: Final = 90
_CLIP_TOKENS: Final = 42
_CLIP_FRAMES: Final = 86
_CALIBRATION_FRAMES: Final = (100, 370)


def precision_of(spec: GraphSpec, asked: Precision) -> Precision:
    """In what a graph is compiled where the room was asked for a precision."""
    if spec.name in _WIDE_GRAPHS:
        return "float32"
    return "float16" if asked == "float8" and spec.name != _SCALED_GRAPH else asked


def ensure_vocoder_plans(folder: str | Path, workshop: Workshop, *, twin: Twin | None = None) -> Twin:
    """The plans of a vocoder folder, made if they are absent, out of date or damaged.

    Args:
        folder: the public layout of a vocoder.
        workshop: with what.
        twin: a folder of the same structure that has its plans.

    Returns:
        its graphs and plans.

    Raises:
        CheckpointError: the folder cannot be used, TensorRT does not take a graph, or speech is beyond the bound.
    """
    exported = ensure_vocoder_graphs(folder, workshop.cache)
    config = load_config(folder)
    flow, hift = load_flow(folder), load_hift(folder)
    plans = ensure_plans(
        exported,
        _orders(exported, config, flow, hift, workshop.precision),
        workshop.builder,
        PlanPlace(workshop.cache, graphs.ROOM, graphs.graphs_key(folder), workshop.precision),
        measure=lambda made: _measure(folder, workshop, made),
        twin=twin,
    )
    return Twin(exported, plans)


def _orders(
    exported: GraphFolder, config: VocoderConfig, flow: Flow, hift: HiFT, asked: Precision
) -> tuple[PlanOrder, ...]:
    ranges = stream_ranges(flow, hift)

    def order(spec: GraphSpec) -> PlanOrder:
        precision = precision_of(spec, asked)
        scales = _scales(exported, spec, flow) if precision == "float8" else None
        return PlanOrder(spec, precision, buckets_of(spec, ranges, shared=SHARED_AXES), scales)

    return tuple(order(spec) for spec in graphs.all_graphs(config))


def _scales(exported: GraphFolder, spec: GraphSpec, flow: Flow) -> Mapping[str, float]:
    generator = torch.Generator().manual_seed(0)
    made = (modules.flow_inputs(flow, 1, frames, generator) for frames in _CALIBRATION_FRAMES)
    samples = [{name: inputs[name] for name in spec.inputs} for inputs in made]
    return activation_scales(exported.read(spec.file), samples)


def _measure(folder: str | Path, workshop: Workshop, plans: Mapping[str, bytes]) -> Gate:
    by_torch = load_vocoder(folder, device=str(workshop.device))

    def opened(spec: GraphSpec) -> PlanSession:
        plan = workshop.builder.open(plans[spec.name])
        return PlanSession(plan, spec.name, workshop.accelerator)

    flow, hift = by_sessions(
        load_flow(folder, device=str(workshop.device)),
        load_hift(folder, device=str(workshop.device)),
        load_config(folder),
        opened,
    )
    by_plans = replace(by_torch, flow=flow, hift=hift)
    distances = [
        log_mel_distance(_spoken(by_torch, voice), _spoken(by_plans, voice)) for voice in (_no_voice(), _some_voice())
    ]
    return Gate("log-mel of streamed speech", max(distances), LOG_MEL_BOUND)


def _spoken(vocoder: Vocoder, voice: VoiceFeatures) -> torch.Tensor:
    """An utterance in pushes of five tokens, so that all lengths of a stream occur."""
    tokens = np.arange(_UTTERANCE_TOKENS) * 97 % 5120
    state, chunks = vocoder.initial_state(0), []
    for place in range(0, len(tokens), 5):
        final = place + 5 >= len(tokens)
        chunk, state = vocoder.chunk(tokens[place : place + 5], voice, state, final=final)
        chunks.append(torch.from_numpy(chunk))
    return torch.cat(chunks)


def _no_voice() -> VoiceFeatures:
    return VoiceFeatures(np.zeros(0, np.int64), np.zeros((0, MEL_CHANNELS), np.float32), np.ones(192, np.float32))


def _some_voice() -> VoiceFeatures:
    random = np.random.default_rng(0)
    mel = random.standard_normal((_CLIP_FRAMES, MEL_CHANNELS)).astype(np.float32) - 5
    return VoiceFeatures(random.integers(0, 5120, _CLIP_TOKENS), mel, random.standard_normal(192).astype(np.float32))


def build_all(checkpoints: Path, workshop: Workshop) -> list[GraphFolder]:
    """The plans of the vocoder, and of the vocoder for music where it is there."""
    speech = ensure_vocoder_plans(checkpoints / TTS_FOLDER / VOCODER_FOLDER, workshop)
    music_folder = checkpoints / TTS_FOLDER / MUSIC_VOCODER_FOLDER
    if not music_folder.is_dir():
        return [speech.plans]
    music = ensure_vocoder_plans(music_folder, workshop, twin=speech)
    return [speech.plans, music.plans]


if __name__ == "__main__":
    sys.exit(run_build(graphs.ROOM, build_all))
