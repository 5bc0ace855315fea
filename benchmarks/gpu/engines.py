"""The same rooms by each engine. One that cannot run here is a reason in words, and no error."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import torch
from torch import Tensor, nn

from services.shared import paths
from services.shared.errors import StepAudioError
from services.shared.graphs.opening import GraphSettings
from services.shared.graphs.plans.keys import Precision
from services.shared.graphs.spec import GraphSpec
from services.tokenizer import LinguisticEncoder, load_linguistic_encoder
from services.tokenizer.onnx_networks import by_session, with_graph
from services.vocoder import Vocoder, load_vocoder
from services.vocoder.config import load_config
from services.vocoder.onnx_networks import by_sessions

Room = TypeVar("Room")

TORCH: Final = "torch"
ENGINES: Final = (TORCH, "torch.compile", "onnxruntime", "tensorrt")


@dataclass(frozen=True, slots=True)
class Place:
    """Where rooms run and where their weights lie.

    Attributes:
        checkpoints: folder of the three public folders.
        cache: of graphs and plans.
        device: as torch names it.
        precision: of plans.
        compile_backend: of torch.compile.
    """

    checkpoints: Path
    cache: Path
    device: str
    precision: Precision = "float16"
    compile_backend: str = "inductor"

    @property
    def vocoder(self) -> Path:
        """The vocoder's folder."""
        return self.checkpoints / paths.TTS_FOLDER / paths.VOCODER_FOLDER

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's folder."""
        return self.checkpoints / paths.TOKENIZER_FOLDER

    @property
    def graphs(self) -> GraphSettings:
        """Graphs by ONNX Runtime."""
        return GraphSettings(self.cache, device=self.device)


class ModuleSession:
    """A graph's torch module, compiled by torch, as a session."""

    def __init__(self, module: nn.Module, spec: GraphSpec, backend: str) -> None:
        self._run = torch.compile(module, backend=backend, dynamic=True)
        self._spec = spec

    def run(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """As `GraphSession.run`."""
        with torch.inference_mode():
            result = self._run(*(inputs[name] for name in self._spec.inputs))
        for name, value in zip(self._spec.outputs, (result,) if isinstance(result, Tensor) else result, strict=True):
            outputs[name].copy_(value)


def open_vocoder(engine: str, place: Place) -> Vocoder | str:
    """The vocoder by an engine, or why not."""
    return _tried(lambda: _VOCODERS[engine](place))


def open_encoder(engine: str, place: Place) -> LinguisticEncoder | str:
    """The linguistic encoder by an engine, or why not."""
    return _tried(lambda: _ENCODERS[engine](place))


def _tried(job: Callable[[], Room]) -> Room | str:
    try:
        return job()
    except (StepAudioError, ImportError) as error:
        return str(error)


def _compiled_vocoder(place: Place) -> Vocoder:
    from services.vocoder import graphs
    from services.vocoder.engine import modules

    by_torch = load_vocoder(place.vocoder, device=place.device)
    flow, hift, config = by_torch.flow, by_torch.hift, load_config(place.vocoder)
    made: dict[str, nn.Module] = {
        graphs.flow_encoder().name: modules.FlowEncoderGraph(flow),
        graphs.flow_conditions(config).name: modules.FlowConditionsGraph(flow),
        graphs.flow_step(config).name: modules.FlowStepGraph(flow),
        graphs.hift_f0().name: modules.HiftF0Graph(hift),
        graphs.hift_wave().name: modules.HiftWaveGraph(hift),
    }
    flow, hift = by_sessions(
        flow, hift, config, lambda spec: ModuleSession(made[spec.name], spec, place.compile_backend)
    )
    return replace(by_torch, flow=flow, hift=hift)


def _exported_vocoder(place: Place) -> Vocoder:
    from services.vocoder.engine.export import ensure_vocoder_graphs

    ensure_vocoder_graphs(place.vocoder, place.cache)
    return load_vocoder(place.vocoder, device=place.device, graphs=place.graphs)


def _planned_vocoder(place: Place) -> Vocoder:
    from services.shared.graphs.plans.command import official_workshop
    from services.vocoder.engine.build import ensure_vocoder_plans

    ensure_vocoder_plans(place.vocoder, official_workshop(place.device, place.cache, place.precision))
    settings = replace(place.graphs, plans=place.precision)
    return load_vocoder(place.vocoder, device=place.device, graphs=settings)


def _compiled_encoder(place: Place) -> LinguisticEncoder:
    from services.tokenizer import graphs
    from services.tokenizer.engine.modules import LinguisticEncoderGraph

    loaded = load_linguistic_encoder(place.tokenizer, device=place.device)
    spec = graphs.linguistic_encoder(loaded.encoder.config)
    return by_session(loaded, ModuleSession(LinguisticEncoderGraph(loaded.encoder), spec, place.compile_backend))


def _exported_encoder(place: Place) -> LinguisticEncoder:
    from services.tokenizer.engine.export import ensure_tokenizer_graphs

    ensure_tokenizer_graphs(place.tokenizer, place.cache)
    return with_graph(load_linguistic_encoder(place.tokenizer, device=place.device), place.tokenizer, place.graphs)


def _planned_encoder(place: Place) -> LinguisticEncoder:
    from services.shared.graphs.plans.command import official_workshop
    from services.tokenizer.engine.build import ensure_tokenizer_plans

    ensure_tokenizer_plans(place.tokenizer, official_workshop(place.device, place.cache, place.precision))
    settings = replace(place.graphs, plans=place.precision)
    return with_graph(load_linguistic_encoder(place.tokenizer, device=place.device), place.tokenizer, settings)


_VOCODERS: Final[Mapping[str, Callable[[Place], Vocoder]]] = {
    TORCH: lambda place: load_vocoder(place.vocoder, device=place.device),
    "torch.compile": _compiled_vocoder,
    "onnxruntime": _exported_vocoder,
    "tensorrt": _planned_vocoder,
}
_ENCODERS: Final[Mapping[str, Callable[[Place], LinguisticEncoder]]] = {
    TORCH: lambda place: load_linguistic_encoder(place.tokenizer, device=place.device),
    "torch.compile": _compiled_encoder,
    "onnxruntime": _exported_encoder,
    "tensorrt": _planned_encoder,
}
