"""A folder of Triton models made of a room's graphs or plans: `python -m services.<room>.engine.repository`.

<target>/<graph>/config.pbtxt
<target>/<graph>/1/<graph>.onnx or .plan      a hard link into the cache where that is possible, else a copy
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from services.shared.errors import StepAudioError
from services.shared.graphs.options import command_log, command_parser
from services.shared.graphs.plans.command import Workshop, official_workshop
from services.shared.graphs.plans.keys import Precision
from services.shared.graphs.plans.port import Bucket
from services.shared.graphs.spec import GraphSpec
from services.shared.triton.graph_config import SUFFIXES, Backend, render_graph


@dataclass(frozen=True, slots=True)
class GraphModels:
    """What a room has to put into a repository.

    Attributes:
        pool: its name.
        specs: its graphs.
        buckets: graph -> buckets of its plan.
        files: where its graphs or plans are.
    """

    pool: str
    specs: Sequence[GraphSpec]
    buckets: Mapping[str, tuple[Bucket, ...]]
    files: Path


Find = Callable[[Path, Path, Workshop | None], GraphModels]
"""(checkpoints, cache, with what plans are made) -> graphs, or with a workshop plans; made if they are absent."""


def write_repository(target: Path, models: GraphModels, backend: Backend, *, device: str) -> list[Path]:
    """Write a model for each graph, and say where its configuration is.

    Args:
        target: of the models.
        models: what to write.
        backend: what runs them.
        device: as torch names it.
    """
    written = []
    for spec in models.specs:
        usual = [{name: profile.usual for name, profile in bucket.items()} for bucket in models.buckets[spec.name]]
        folder = target / spec.name
        (folder / "1").mkdir(parents=True, exist_ok=True)
        config = folder / "config.pbtxt"
        config.write_text(render_graph(spec.model(models.pool), backend, device=device, usual=usual), encoding="utf-8")
        name = f"{spec.name}{SUFFIXES[backend]}"
        _link(models.files / name, folder / "1" / name)
        written.append(config)
    return written


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def run_repository(room: str, find: Find, arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = command_parser(f"python -m services.{room}.engine.repository", __doc__)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--backend", choices=get_args(Backend), default="onnxruntime")
    parser.add_argument("--precision", choices=get_args(Precision), default="float16", help="of plans")
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args(arguments)
    log = command_log(__name__)
    try:
        workshop = None
        if chosen.backend == "tensorrt_plan":
            workshop = official_workshop(chosen.device, chosen.cache, chosen.precision)
        models = find(chosen.checkpoints, chosen.cache, workshop)
        for path in write_repository(chosen.target, models, chosen.backend, device=chosen.device):
            log.info("%s", path)
    except StepAudioError as error:
        log.error("error: %s", error)
        return 1
    return 0
