"""Flow and HiFT whose networks run in ONNX Runtime or TensorRT; everything around them is inherited.

    Flow.encode, Flow.integrate ─> flow_encoder, flow_conditions, ten times flow_step
    HiFT.predict_f0, .render    ─> hift_f0, hift_wave

The torch networks that the graphs replace are given up: their parameters are on the meta device.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from services.shared.graphs.opening import GraphSettings, Session, session_opener
from services.shared.graphs.spec import GraphSpec
from services.vocoder import graphs
from services.vocoder.config import MEL_CHANNELS, VocoderConfig, load_config
from services.vocoder.flow.model import EULER_STEPS, Flow, euler_grid
from services.vocoder.hift.model import HiFT
from services.vocoder.wanted import check_wanted


class OnnxFlow(Flow):
    """A flow by exported graphs.

    Args:
        loaded: the torch flow, in float32 on the graphs' device; its small parts are taken over.
        encoder, conditions, step: its graphs.
    """

    def __init__(self, loaded: Flow, *, encoder: Session, conditions: Session, step: Session) -> None:
        with torch.device("meta"):
            super().__init__(loaded.config)
        self.requires_grad_(False).eval()
        self.spk_embed_affine_layer = loaded.spk_embed_affine_layer
        self.length_regulator = loaded.length_regulator
        self._encoder, self._conditions, self._step = encoder, conditions, step
        with torch.inference_mode():
            self._grids = {count: self._grid(loaded, count) for count in range(1, EULER_STEPS + 1)}

    def _grid(self, loaded: Flow, count: int) -> list[tuple[Tensor, Tensor]]:
        """Of each of so many steps, the time [levels, C] and the length [1]."""
        steps, lengths = euler_grid(loaded.config.time_schedule, count)
        times = loaded.estimator.times(steps.to(self.device))
        rows = [torch.cat(time, dim=1).t().contiguous() for time in times]
        return list(zip(rows, lengths.to(self.device).split(1), strict=True))

    def encode(self, ids: Tensor) -> Tensor:
        """As `Flow.encode`."""
        rows = torch.empty(1, ids.shape[1], MEL_CHANNELS, device=ids.device)
        self._encoder.run({"ids": ids}, {"rows": rows})
        return rows

    def integrate(
        self, noise: Tensor, mu: Tensor, speaker: Tensor, known: Tensor, *, count: int = EULER_STEPS
    ) -> Tensor:
        """As `Flow.integrate`."""
        B, _, T = noise.shape
        shape = (2 * B, self.config.estimator.channels, T)
        share = {"block": noise.new_empty(shape), "residual": noise.new_empty(shape)}
        self._conditions.run({"mu": mu, "speaker": speaker, "known": known}, share)
        state, following = noise.contiguous(), torch.empty_like(noise, memory_format=torch.contiguous_format)
        spare = torch.empty_like(following)  # the caller's noise is never written
        for time, length in self._grids[count]:
            check_wanted()
            self._step.run({"state": state, **share, "time": time, "length": length}, {"next_state": following})
            state, following, spare = following, spare, following
        return state


class OnnxHiFT(HiFT):
    """A HiFT by exported graphs.

    Args:
        loaded: the torch HiFT on the graphs' device; its source is taken over.
        f0, wave: its graphs.
    """

    def __init__(self, loaded: HiFT, *, f0: Session, wave: Session) -> None:
        with torch.device("meta"):
            super().__init__(loaded.config)
        self.requires_grad_(False).eval()
        self.m_source = loaded.m_source
        self._f0, self._wave = f0, wave

    def predict_f0(self, mel: Tensor) -> Tensor:
        """As `HiFT.predict_f0`."""
        f0 = mel.new_empty(1, mel.shape[2])
        self._f0.run({"mel": mel}, {"f0": f0})
        return f0

    def render(self, mel: Tensor, source: Tensor) -> Tensor:
        """As `HiFT.render`."""
        rows = source.reshape(mel.shape[2], self.config.hop_samples)
        wave = torch.empty_like(rows, memory_format=torch.contiguous_format)
        self._wave.run({"mel": mel, "source": rows}, {"wave": wave})
        return wave.view(1, -1)


def with_graphs(flow: Flow, hift: HiFT, folder: str | Path, settings: GraphSettings) -> tuple[Flow, HiFT]:
    """The same flow and HiFT by the exported graphs of their folder.

    Args:
        flow, hift: loaded from `folder`, in float32 on the graphs' device.
        folder: of the checkpoint.
        settings: where `python -m services.vocoder.engine`, or its `.build`, put what runs, and on what it runs.

    Raises:
        MissingFileError, CorruptFileError: what was made of this checkpoint and code is not there, or damaged.
        CheckpointError: plans that are further from torch than their bound.
        InvalidOptionError: what they should run on is not there.
    """
    opened = session_opener(settings, graphs.ROOM, graphs.graphs_key(folder))
    return by_sessions(flow, hift, load_config(folder), opened)


def by_sessions(
    flow: Flow, hift: HiFT, config: VocoderConfig, opened: Callable[[GraphSpec], Session]
) -> tuple[Flow, HiFT]:
    """The same flow and HiFT by sessions of their graphs.

    Args:
        flow, hift: whose other parts stay as they are.
        config: of the vocoder.
        opened: gives the session of each graph.
    """
    return (
        OnnxFlow(
            flow,
            encoder=opened(graphs.flow_encoder()),
            conditions=opened(graphs.flow_conditions(config)),
            step=opened(graphs.flow_step(config)),
        ),
        OnnxHiFT(hift, f0=opened(graphs.hift_f0()), wave=opened(graphs.hift_wave())),
    )
