"""The linguistic encoder whose layers run in ONNX Runtime or TensorRT; everything around them is inherited.

The torch layers that the graph replaces are given up: their parameters are on the meta device.
"""

from pathlib import Path

import torch
from torch import Tensor

from services.shared.graphs.opening import GraphSettings, Session, session_opener
from services.tokenizer import graphs
from services.tokenizer.paraformer.linguistic import LinguisticEncoder
from services.tokenizer.paraformer.sanm import NEW_ROWS, Masks, SanmEncoder, all_present


class OnnxSanmEncoder(SanmEncoder):
    """A SAN-M encoder by its exported graph.

    Args:
        loaded: the torch encoder, in float32 on the graph's device.
        session: its graph.
    """

    def __init__(self, loaded: SanmEncoder, session: Session) -> None:
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
        folder: of the checkpoint.
        settings: where `python -m services.tokenizer.engine`, or its `.build`, put what runs, and on what it runs.

    Raises:
        MissingFileError, CorruptFileError: what was made of this checkpoint and code is not there, or damaged.
        CheckpointError: a plan that is further from torch than its bound.
        InvalidOptionError: what it should run on is not there.
    """
    opened = session_opener(settings, graphs.ROOM, graphs.graphs_key(folder))
    return by_session(linguistic, opened(graphs.linguistic_encoder(linguistic.encoder.config)))


def by_session(linguistic: LinguisticEncoder, session: Session) -> LinguisticEncoder:
    """The same linguistic encoder by a session of its graph."""
    return LinguisticEncoder(linguistic.front_end, OnnxSanmEncoder(linguistic.encoder, session), linguistic.quantizer)
