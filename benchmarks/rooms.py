"""Speed of the rooms at the sizes of the public checkpoints, with random weights: the released order of work and ours.

    python -m benchmarks.rooms [--threads 1 2] [--rounds 2] [--audio-s 10] [--prompt-s 3] [--work out/rooms]

Flow and HiFT speak `audio-s` seconds after a prompt of `prompt-s`; the Paraformer encoder hears `audio-s` seconds. The
ways run in turn, A B A B …, within one process: read the ratios. The released flow runs in bfloat16 on its GPUs; ours
does so on request, and that row is fast where the processor has bfloat16 products (amx_bf16, avx512_bf16). Graphs for
ONNX Runtime are exported into the work folder first, which takes minutes. Needs the extra `engine`.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.released.paraformer import encode_as_released
from benchmarks.released.vocoder import full_size_config, full_size_vocoder
from benchmarks.report import by_turns, machine, table
from services.shared.graphs.providers import providers_for
from services.shared.graphs.session import GraphSession, Runtime
from services.shared.graphs.spec import GraphSpec
from services.tokenizer import LinguisticEncoder
from services.tokenizer.engine.export import export_encoder
from services.tokenizer.graphs import linguistic_encoder
from services.tokenizer.onnx_networks import by_session
from services.tokenizer.paraformer.config import EncoderConfig
from services.tokenizer.paraformer.frontend import OnlineFrontEnd
from services.tokenizer.paraformer.quantizer import KMeansQuantizer
from services.tokenizer.paraformer.sanm import SanmEncoder
from services.vocoder.engine.export import export_networks
from services.vocoder.onnx_networks import by_sessions

FEATURES = 560
PLAIN, FAST, FAST_BF16 = "released order of work", "ours", "ours, flow in bfloat16"
ONNX = "ours, ONNX Runtime"
HEADER = ("room", "threads", "way", "seconds", "RTF", "times faster", "mean difference")


@dataclass(frozen=True, slots=True)
class Way:
    """One way of doing a room's work: what is timed, and what is compared (the log-mel; the encoder's rows)."""

    run: Callable[[], torch.Tensor]
    result: Callable[[], torch.Tensor]


Ways = Callable[[int], dict[str, Way]]
"""All ways of doing a room's work, on so many threads."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--audio-s", type=float, default=10.0)
    parser.add_argument("--prompt-s", type=float, default=3.0)
    parser.add_argument("--work", type=Path, default=Path("out/rooms"), help="where exported graphs are put")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    print(machine())
    rows: list[tuple[object, ...]] = []
    for room, on_threads in (
        (
            f"flow + HiFT, {options.audio_s:g} s + {options.prompt_s:g} s prompt",
            vocoder_ways(options.audio_s, options.prompt_s, options.work),
        ),
        (f"Paraformer encoder, {options.audio_s:g} s", paraformer_ways(options.audio_s, options.work)),
    ):
        for threads in options.threads:
            torch.set_num_threads(threads)
            ways = on_threads(threads)
            results = {name: way.result() for name, way in ways.items()}
            times_s = by_turns({name: way.run for name, way in ways.items()}, rounds=options.rounds, warm_up=False)
            for name, seconds in times_s.items():
                difference = (results[name] - results[PLAIN]).abs().mean().item()
                rtf, ratio = seconds / options.audio_s, times_s[PLAIN] / seconds
                rows.append((room, threads, name, f"{seconds:.2f}", f"{rtf:.3f}", f"{ratio:.2f}", f"{difference:.1e}"))
    print(table(HEADER, rows))


def vocoder_ways(audio_s: float, prompt_s: float, work: Path) -> Ways:
    """Tokens to wave, four ways."""
    full = full_size_vocoder(audio_s=audio_s, prompt_s=prompt_s)
    half = full_size_vocoder(audio_s=audio_s, prompt_s=prompt_s, dtype=torch.bfloat16)
    export_networks(full_size_config(), full.flow, full.hift, work)

    def on_threads(threads: int) -> dict[str, Way]:
        flow, hift = by_sessions(full.flow, full.hift, full_size_config(), lambda spec: opened(spec, work, threads))
        graphs = replace(full, flow=flow, hift=hift)
        return {
            PLAIN: Way(full.run_plain, lambda: full.plain.mel(full.tokens, full.voice, full.noise)),
            FAST: Way(full.run_fast, lambda: full.flow.mel(full.tokens, full.voice, noise=full.noise)),
            FAST_BF16: Way(half.run_fast, lambda: half.flow.mel(half.tokens, half.voice, noise=half.noise).float()),
            ONNX: Way(graphs.run_fast, lambda: flow.mel(full.tokens, full.voice, noise=full.noise)),
        }

    return on_threads


def paraformer_ways(audio_s: float, work: Path) -> Ways:
    """Samples to rows, three ways."""
    torch.manual_seed(0)
    encoder = SanmEncoder(EncoderConfig(512, 4, 2048, 50)).eval().requires_grad_(False)
    front_end = OnlineFrontEnd(torch.zeros(FEATURES), torch.ones(FEATURES), dither=0.0, released_quirks=False)
    linguistic = LinguisticEncoder(front_end, encoder, KMeansQuantizer(torch.randn(1024, 512)))
    samples = torch.randn(int(audio_s * 16_000)) * 0.1
    export_encoder(encoder, work)

    def plain() -> torch.Tensor:
        return encode_as_released(linguistic, samples)

    def rows(room: LinguisticEncoder) -> torch.Tensor:
        return room.encode(samples, room.initial_state(), final=True)[0]

    def on_threads(threads: int) -> dict[str, Way]:
        graph = by_session(linguistic, opened(linguistic_encoder(encoder.config), work, threads))
        fast, onnx = partial(rows, linguistic), partial(rows, graph)
        return {PLAIN: Way(plain, plain), FAST: Way(fast, fast), ONNX: Way(onnx, onnx)}

    return on_threads


def opened(spec: GraphSpec, folder: Path, threads: int) -> GraphSession:
    """An exported graph on the CPU."""
    path = folder / spec.file
    return GraphSession(path.read_bytes(), path, Runtime(torch.device("cpu"), providers_for("cpu"), threads))


if __name__ == "__main__":
    main()
