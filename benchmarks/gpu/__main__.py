"""Measure the rooms on a CUDA machine, engine beside engine; print tables and write JSON.

    python -m benchmarks.gpu --checkpoints /checkpoints                  with the public weights
    python -m benchmarks.gpu                                             without: random ones of the public sizes
    python -m benchmarks.gpu --dry-run                                   everything on the CPU with the nano checkpoint

    [--engines torch torch.compile onnxruntime tensorrt] [--streams 1 2 4 8 16] [--precision float16] [--lm torch vllm]

Parity is against torch on the same device. A first chunk is the vocoder's alone, behind a voice's clip of 3 s; the
published anchors (docs/gpu.md) count from the request to the wave of a comparable network. An engine that cannot run
here is listed with its reason. The fraction is of the roofline of the device (benchmarks/gpu/roofline.py).
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import torch

from benchmarks.fullsize.folders import NANO, write_step1_3b, write_tokenizer, write_vocoder
from benchmarks.gpu import measuring
from benchmarks.gpu.engines import ENGINES, TORCH, Place, open_encoder, open_vocoder
from benchmarks.gpu.roofline import Work, counted, peak_of, step1_decode, weight_bytes
from benchmarks.report import machine, table
from services.shared import paths
from services.shared.graphs.plans.gate import log_mel_distance, relative_distance
from services.shared.nn.step1 import load_step1
from services.vocoder import Vocoder, VoiceFeatures
from services.vocoder.flow.model import EULER_STEPS

AUDIO_S: Final = 10.0
TOKEN_RATE_HZ: Final = 41.6667
LM_BATCHES: Final = (1, 4, 16)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: a dry run only shows that all of it runs."""

    rounds: int = 20
    audio_s: float = AUDIO_S
    prompt_s: float = 3.0
    lm_batches: Sequence[int] = LM_BATCHES
    lm_prompt: int = 256
    lm_new: int = 128


DRY: Final = Effort(rounds=1, audio_s=0.5, prompt_s=0.2, lm_batches=(1, 2), lm_prompt=4, lm_new=4)


@dataclass(slots=True)
class Row:
    """One engine in one room: figures by name, or why there are none."""

    room: str
    engine: str
    figures: dict[str, float | None] = field(default_factory=dict)
    absent: str = ""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=Path)
    parser.add_argument("--work", type=Path, default=Path("out/gpu"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--streams", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--precision", choices=("float32", "float16", "bfloat16", "float8"), default="float16")
    parser.add_argument("--lm", nargs="*", choices=(TORCH, "vllm"), default=[TORCH, "vllm"])
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args(arguments)
    device = "cpu" if options.dry_run else options.device
    if device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --dry-run shows on the CPU that everything runs")
    options.work.mkdir(parents=True, exist_ok=True)
    checkpoints = options.checkpoints or (NANO if options.dry_run else random_checkpoints(options.work))
    backend = "eager" if options.dry_run else "inductor"
    place = Place(checkpoints, options.work / "graphs", device, options.precision, backend)
    effort = DRY if options.dry_run else Effort()
    rows = [
        *vocoder_rows(place, options.engines, options.streams, effort),
        *encoder_rows(place, options.engines, effort),
    ]
    rows += lm_rows(place, options.lm, effort)
    weights = "nano" if options.dry_run else "public" if options.checkpoints else "random, public sizes"
    report(rows, options.work / "gpu.json", f"{measuring.device_name(device)}; {machine()}; weights: {weights}")
    return 0


def random_checkpoints(work: Path) -> Path:
    """Random weights of the public sizes; written once."""
    folder = work / "checkpoints"
    if not (folder / paths.TTS_FOLDER / "config.json").is_file():
        write_vocoder(folder), write_tokenizer(folder), write_step1_3b(folder)
    return folder


def vocoder_rows(place: Place, engines: Sequence[str], streams: Sequence[int], effort: Effort) -> list[Row]:
    """The vocoder by each engine, and its distance from torch."""
    voice = measuring.clip(effort.prompt_s)
    tokens = round(effort.audio_s * TOKEN_RATE_HZ)
    by_torch = open_vocoder(TORCH, place)
    if isinstance(by_torch, str):
        return [Row("vocoder", TORCH, absent=by_torch)]
    expected = measuring.spoken(by_torch, voice, tokens)
    first = first_pass_work(by_torch, voice)

    def measure(engine: str, row: Row) -> None:
        vocoder = open_vocoder(engine, place)
        if isinstance(vocoder, str):
            row.absent = vocoder
            return
        clock = measuring.synchronized(place.device)
        row.figures["log-mel from torch"] = log_mel_distance(expected, measuring.spoken(vocoder, voice, tokens))
        for count in streams:
            times = measuring.first_chunks(vocoder, voice, streams=count, rounds=effort.rounds, clock=clock)
            row.figures[f"first chunk ms p50, {count}"] = times.p50_ms
            row.figures[f"first chunk ms p95, {count}"] = times.p95_ms
        row.figures |= stream_figures(place, vocoder, voice, tokens, effort)
        row.figures["roofline of a first chunk"] = fraction(first, row.figures.get("first chunk ms p50, 1"), place)

    return [attempted("vocoder", engine, measure) for engine in engines]


def attempted(room: str, engine: str, measure: Callable[[str, Row], None]) -> Row:
    """The row of one engine; one that fails on the way keeps its figures so far, and the others are still measured."""
    row = Row(room, engine)
    try:
        measure(engine, row)
    except Exception as error:  # noqa: BLE001 - on a machine by the hour nothing may lose what was measured before
        row.absent = f"{type(error).__name__}: {error}"
    return row


def stream_figures(
    place: Place, vocoder: Vocoder, voice: VoiceFeatures, tokens: int, effort: Effort
) -> dict[str, float | None]:
    """Real-time factor, energy and memory of one stream."""

    def speak() -> object:
        return measuring.spoken(vocoder, voice, tokens)

    seconds = measuring.timed_s(speak, measuring.synchronized(place.device), rounds=min(effort.rounds, 3))
    return {
        "RTF": seconds / effort.audio_s,
        "J per s of audio": per(measuring.EnergyMeter(place.device).joules(speak), effort.audio_s),
        "memory MiB": float(measuring.memory_mib(place.device)),
    }


def first_pass_work(vocoder: Vocoder, voice: VoiceFeatures) -> Work:
    """Operations and bytes of a stream's first chunk: the estimator's weights are read at every step."""
    ids = measuring.speech_tokens(measuring.FIRST_TOKENS)
    operations = counted(lambda: vocoder.chunk(ids, voice, vocoder.initial_state(0), final=False))
    flow = vocoder.flow
    estimator = weight_bytes(flow.estimator)
    return Work(operations, weight_bytes(flow, vocoder.hift) + (EULER_STEPS - 1) * estimator)


def encoder_rows(place: Place, engines: Sequence[str], effort: Effort) -> list[Row]:
    """The linguistic encoder by each engine, and its distance from torch."""
    by_torch = open_encoder(TORCH, place)
    if isinstance(by_torch, str):
        return [Row("tokenizer", TORCH, absent=by_torch)]
    expected = measuring.heard(by_torch, effort.audio_s)

    def measure(engine: str, row: Row) -> None:
        encoder = open_encoder(engine, place)
        if isinstance(encoder, str):
            row.absent = encoder
            return
        row.figures["rows from torch"] = relative_distance(expected, measuring.heard(encoder, effort.audio_s))
        clock, rounds = measuring.synchronized(place.device), min(effort.rounds, 3)
        seconds = measuring.timed_s(lambda: measuring.heard(encoder, effort.audio_s), clock, rounds=rounds)
        row.figures["ms a chunk of 240 ms"] = 240 * seconds / effort.audio_s
        row.figures["RTF"] = seconds / effort.audio_s
        row.figures["memory MiB"] = float(measuring.memory_mib(place.device))

    return [attempted("tokenizer", engine, measure) for engine in engines]


def lm_rows(place: Place, engines: Sequence[str], effort: Effort) -> list[Row]:
    """The speech model by torch's batcher and by vLLM."""
    ways = {TORCH: torch_lm, "vllm": vllm_lm}
    return [attempted("tts", engine, lambda name, row: ways[name](place, effort, row)) for engine in engines]


def torch_lm(place: Place, effort: Effort, row: Row) -> None:
    """Tokens a second of the torch batcher."""
    dtype = torch.bfloat16 if place.device.startswith("cuda") else torch.float32
    model = load_step1(place.checkpoints / paths.TTS_FOLDER, device=place.device, dtype=dtype)
    clock = measuring.synchronized(place.device)
    for batch in effort.lm_batches:
        speed = measuring.torch_tokens_per_s(
            model, batch=batch, prompt=effort.lm_prompt, new=effort.lm_new, clock=clock
        )
        work = step1_decode(
            model.config, batch=batch, context=effort.lm_prompt + effort.lm_new // 2, bytes_per_number=dtype.itemsize
        )
        row.figures[f"tokens/s, {batch}"] = speed
        row.figures[f"roofline, {batch}"] = fraction(work, 1000 * batch / speed, place)
    row.figures["memory MiB"] = float(measuring.memory_mib(place.device))


def vllm_lm(place: Place, effort: Effort, row: Row) -> None:
    """Tokens a second of vLLM."""
    if not place.device.startswith("cuda"):
        row.absent = "vLLM serves on CUDA devices alone"
        return
    from services.shared.decoding.vllm.opening import open_vllm
    from services.shared.decoding.vllm.options import VllmOptions
    from services.shared.decoding.vllm.stats import StatsTaker
    from services.shared.step1_config import read_step1_config

    folder = place.checkpoints / paths.TTS_FOLDER
    options = VllmOptions(max_batch=max(effort.lm_batches), context_tokens=4096, memory_fraction=0.6)
    streams = open_vllm(folder, options, stats=StatsTaker())
    try:
        for batch in effort.lm_batches:
            speed = measuring.engine_tokens_per_s(
                streams, batch=batch, prompt=effort.lm_prompt, new=effort.lm_new, clock=measuring.synchronized("cpu")
            )
            work = step1_decode(read_step1_config(folder), batch=batch, context=effort.lm_prompt + effort.lm_new // 2)
            row.figures[f"tokens/s, {batch}"] = speed
            row.figures[f"roofline, {batch}"] = fraction(work, 1000 * batch / speed, place)
        row.figures["memory MiB"] = float(measuring.memory_mib(place.device))
    finally:
        streams.close()


def fraction(work: Work, taken_ms: float | None, place: Place) -> float | None:
    """Of the roofline of the device; None where its peak is not known."""
    peak = peak_of(measuring.device_name(place.device)) if place.device.startswith("cuda") else None
    return None if peak is None or not taken_ms else 1000 * work.best_s(peak) / taken_ms


def per(value: float | None, seconds: float) -> float | None:
    """A figure for each second; None stays None."""
    return None if value is None else value / seconds


def report(rows: Sequence[Row], path: Path, title: str) -> None:
    """Print a table for each room, and write everything."""
    print(title)
    for room in dict.fromkeys(row.room for row in rows):
        of_room = [row for row in rows if row.room == room]
        names = list(dict.fromkeys(name for row in of_room for name in row.figures))
        cells = [
            (row.engine, *(shown(row.figures.get(name)) for name in names), row.absent.splitlines()[0][:90])
            if row.absent
            else (row.engine, *(shown(row.figures.get(name)) for name in names), "")
            for row in of_room
        ]
        print(f"\n{room}\n\n{table(('engine', *names, 'absent'), cells)}")
    path.write_text(json.dumps({"title": title, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


def shown(value: float | None) -> str:
    """A figure for people."""
    return "—" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


if __name__ == "__main__":
    sys.exit(main())
