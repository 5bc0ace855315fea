"""The stages of the dry run: each is a function of (checkpoints, cache of graphs), runs alone in a process, and says in
a few words what came out. One that goes wrong raises.

    write    random weights in the public layout
    load     the room's own loader, then speech through the room's own interface, by torch
    export   the room's own command of engine builds: ONNX, held against torch
    graphs   the same speech by ONNX Runtime on those graphs, held against torch's
    serve    the pool's real Triton server on the folder, and the answer to a probe

Numbers of random networks mean nothing as speech: what is held is shapes, finiteness and the agreement of two ways.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.fullsize.folders import write_step1_3b, write_tokenizer, write_vocoder
from benchmarks.fullsize.usage import peak_mib
from services.local.processes import ChildProcess
from services.local.settings import LocalSettings
from services.local.system import LocalSystem
from services.shared import paths
from services.shared.decoding import ContinuousBatcher
from services.shared.errors import StepAudioError
from services.shared.graphs.cache import GraphRecord
from services.shared.graphs.opening import GraphSettings
from services.shared.nn.step1 import load_step1
from services.shared.sampling import SamplingParams
from services.tokenizer import load_linguistic_encoder
from services.tokenizer.onnx_networks import with_graph
from services.vocoder import VoiceFeatures, load_vocoder
from services.vocoder.vocoder import Vocoder

Stage: TypeAlias = Callable[[Path, Path], str]

_TOKENS: Final = 30
_NEW_IDS: Final = 4
_SPEECH_S: Final = 1.0
_READY_S: Final = 900.0
_AGREEMENT: Final = 2e-3
"""Of waves and rows by two ways: sums in another order, through every layer."""


def _write_vocoder(checkpoints: Path, _cache: Path) -> str:
    return _size_of(write_vocoder(checkpoints))


def _load_vocoder(checkpoints: Path, cache: Path) -> str:
    wave = _spoken(load_vocoder(_vocoder_folder(checkpoints)))
    np.save(cache / "wave.npy", wave)
    return f"{len(wave)} samples of {_TOKENS} tokens, loudest {np.abs(wave).max():.2f}"


def _export_vocoder(checkpoints: Path, cache: Path) -> str:
    from services.vocoder.engine.export import ensure_vocoder_graphs  # needs the extra `engine`

    records = ensure_vocoder_graphs(_vocoder_folder(checkpoints), cache).records
    return f"{len(records)} graphs, at most {_furthest(records.values()):.1e} from torch"


def _graphs_vocoder(checkpoints: Path, cache: Path) -> str:
    by_graphs = _spoken(load_vocoder(_vocoder_folder(checkpoints), graphs=GraphSettings(cache)))
    return _agreed(by_graphs, np.load(cache / "wave.npy"))


def _write_tokenizer(checkpoints: Path, _cache: Path) -> str:
    return _size_of(write_tokenizer(checkpoints))


def _load_tokenizer(checkpoints: Path, cache: Path) -> str:
    encoder = load_linguistic_encoder(checkpoints / paths.TOKENIZER_FOLDER)
    rows, _ = encoder.encode(_speech(), encoder.initial_state(), final=True)
    np.save(cache / "rows.npy", rows.numpy())
    codes = encoder.quantize(rows)
    return f"{len(rows)} rows of {_SPEECH_S:g} s, codes {int(codes.min())}..{int(codes.max())}"


def _export_tokenizer(checkpoints: Path, cache: Path) -> str:
    from services.tokenizer.engine.export import ensure_tokenizer_graphs  # needs the extra `engine`

    records = ensure_tokenizer_graphs(checkpoints / paths.TOKENIZER_FOLDER, cache).records
    return f"{len(records)} graph, at most {_furthest(records.values()):.1e} from torch"


def _graphs_tokenizer(checkpoints: Path, cache: Path) -> str:
    folder = checkpoints / paths.TOKENIZER_FOLDER
    encoder = with_graph(load_linguistic_encoder(folder), folder, GraphSettings(cache))
    rows, _ = encoder.encode(_speech(), encoder.initial_state(), final=True)
    return _agreed(rows.numpy(), np.load(cache / "rows.npy"))


def _write_speech_model(checkpoints: Path, _cache: Path) -> str:
    return _size_of(write_step1_3b(checkpoints))


def _load_speech_model(checkpoints: Path, _cache: Path) -> str:
    batcher = ContinuousBatcher(load_step1(checkpoints / paths.TTS_FOLDER, dtype=torch.bfloat16), max_batch=2)
    wanted = SamplingParams(max_new_tokens=_NEW_IDS, temperature=0.0)
    for prompt in ([1, 2, 3], [1, 5, 7, 9]):
        batcher.submit(prompt, wanted)
    ids: list[int] = []
    while batcher.has_work:
        for output in batcher.step():
            if output.error is not None:
                raise output.error
            ids += output.ids
    if len(ids) != 2 * _NEW_IDS:
        raise StepAudioError(f"{len(ids)} ids where {2 * _NEW_IDS} were due")
    return f"{len(ids)} ids of two prompts at once"


def _serve(pool: str, checkpoints: Path, cache: Path) -> str:
    """The pool's real server; its peak is that of the process that holds the model."""
    settings = LocalSettings(
        checkpoints=checkpoints, run_folder=cache / f"serve-{pool}", ready_timeout_s=_READY_S, threads=1
    )
    told: list[str] = []
    system = LocalSystem(settings, notify=told.append, pools=(pool,))
    try:
        asyncio.run(system.start())
        peak = max(peak_mib(pid) for pid in members(system.servers[pool].process))
    finally:
        system.stop()
    return f"{told[-1].partition(' answers')[0]} answered rightly; its process peaked at {peak} MiB"


def members(process: ChildProcess) -> list[int]:
    """The processes of a server's session."""
    from services.local.keeper import session_members

    return list(session_members(process.pid))


def _spoken(vocoder: Vocoder) -> NDArray[np.float32]:
    tokens = np.arange(_TOKENS) * 97 % 5120
    voice = VoiceFeatures(np.zeros(0, np.int64), np.zeros((0, 80), np.float32), np.ones(192, np.float32))
    wave, _ = vocoder.chunk(tokens, voice, vocoder.initial_state(0), final=True)
    if not np.isfinite(wave).all() or not wave.any():
        raise StepAudioError("the wave is silent or not finite")
    return wave


def _speech() -> NDArray[np.float32]:
    noise = np.random.default_rng(0).standard_normal(round(16_000 * _SPEECH_S))
    return np.asarray(0.1 * noise, np.float32)


def _agreed(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> str:
    furthest = float(np.abs(actual - expected).max())
    if not furthest <= _AGREEMENT * max(1.0, float(np.abs(expected).max())):
        raise StepAudioError(f"ONNX Runtime is {furthest:.1e} from torch")
    return f"at most {furthest:.1e} from torch, where values reach {np.abs(expected).max():.2g}"


def _furthest(records: Iterable[GraphRecord]) -> float:
    return max(record.parity.max_difference for record in records)


def _vocoder_folder(checkpoints: Path) -> Path:
    return checkpoints / paths.TTS_FOLDER / paths.VOCODER_FOLDER


def _size_of(folder: Path) -> str:
    return f"{sum(file.stat().st_size for file in folder.rglob('*') if file.is_file()) / 2**20:.0f} MiB"


STAGES: Final[Mapping[str, Mapping[str, Stage]]] = MappingProxyType(
    {
        "vocoder": {
            "write": _write_vocoder,
            "load": _load_vocoder,
            "export": _export_vocoder,
            "graphs": _graphs_vocoder,
            "serve": lambda checkpoints, cache: _serve("vocoder", checkpoints, cache),
        },
        "tokenizer": {
            "write": _write_tokenizer,
            "load": _load_tokenizer,
            "export": _export_tokenizer,
            "graphs": _graphs_tokenizer,
            "serve": lambda checkpoints, cache: _serve("tokenizer", checkpoints, cache),
        },
        "tts": {
            "write": _write_speech_model,
            "load": _load_speech_model,
            "serve": lambda checkpoints, cache: _serve("tts", checkpoints, cache),
        },
    }
)
"""Room -> stage -> what it does, in order."""
