"""The toy folder and its graphs, exported once."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from services.shared.graphs.opening import GraphSettings
from services.vocoder import Vocoder, load_vocoder
from tests.vocoder.engine.toy import write_folder


@dataclass(frozen=True, slots=True)
class Toy:
    """The toy folder, where its graphs are, and both vocoders of it."""

    folder: Path
    settings: GraphSettings
    by_torch: Vocoder
    by_graphs: Vocoder


@pytest.fixture(scope="package")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Exported through the room's own command; not to be written to."""
    pytest.importorskip("onnxscript")
    from services.vocoder.engine.export import ensure_vocoder_graphs  # needs onnx

    folder = write_folder(tmp_path_factory.mktemp("toy") / "vocoder")
    settings = GraphSettings(tmp_path_factory.mktemp("graphs"))
    ensure_vocoder_graphs(folder, settings.cache)
    return Toy(folder, settings, load_vocoder(folder), load_vocoder(folder, graphs=settings))
