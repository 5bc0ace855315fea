"""The linguistic encoder whose layers run in ONNX Runtime; everything around them is inherited.

The torch layers that the graph replaces are given up: their parameters are on the meta device.
"""

from pathlib import Path

import torch
from torch import Tensor

from services.shared.graphs.cache import find_graphs
from services.shared.graphs.opening import GraphSettings, open_graph
from services.shared.graphs.session import GraphSession
from services.tokenizer import graphs
from services.tokenizer.paraformer.linguistic import LinguisticEncoder
from services.tokenizer.paraformer.sanm import NEW_ROWS, Masks, SanmEncoder, all_present


class OnnxSanmEncoder(SanmEncoder):
    """A SAN-M encoder by its exported graph.

    Args:
        loaded: the torch encoder, in float32 on the graph's device.
        session: its graph.
    """

    def __init__(self, loaded: SanmEncoder, session: GraphSession) -> None:
        with torch.device("meta"):
            super().__init__(loaded.config)
        self.requires_grad_(False).eval()
        self.after_norm = loaded.after_norm  # says device and dtype of states
        self._session = session

    def run_windows(self, windows: Tensor, memory: Tensor, masks: Masks | None) -> tuple[Tensor, Tensor]:
        """As `SanmEncoder.run_windows`."""
        masks = masks or all_present(windows)
        rows = windows.new_empty(windows.shape[0], NEW_ROWS, self.config.output_size)
        following = torch.empty_like(memory)
        self._session.run(
            {"windows": windows, "memory": memory, "visible": masks.visible, "present": masks.present},
            {"rows": rows, "next_memory": following},
        )
        return rows, following


def with_graph(linguistic: LinguisticEncoder, folder: str | Path, settings: GraphSettings) -> LinguisticEncoder:
    """The same linguistic encoder by the exported graph of its folder.

    Args:
        linguistic: loaded from `folder`, in float32 on the graph's device.
        settings: where `python -m services.tokenizer.engine` put the graph, and on what it runs.

    Raises:
        MissingFileError, CorruptFileError: the graph of this checkpoint and code is not there, or damaged.
        InvalidOptionError: what it should run on is not there.
    """
    exported = find_graphs(settings.cache, graphs.ROOM, graphs.graphs_key(folder))
    spec = graphs.linguistic_encoder(linguistic.encoder.config)
    session = open_graph(exported, spec, settings)
    return LinguisticEncoder(linguistic.front_end, OnnxSanmEncoder(linguistic.encoder, session), linguistic.quantizer)
