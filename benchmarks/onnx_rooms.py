"""The rooms' exported graphs in ONNX Runtime against torch: differences, and processor time as ratios within one run.

    python -m benchmarks.onnx_rooms [--sizes nano full] [--threads 1 2] [--rounds 5] [--work out/onnx_rooms]

Each graph is exported, checked and run beside the module it was made of, A B A B …, on the lengths that streaming gives
it. `nano` are the weights of the nano checkpoint, `full` random ones of the public sizes. The rows "stream" push speech
through the room's own interfaces: what the setting STEPAUDIO_ENGINE=onnxruntime changes, everything around the networks
included. Times are processor times of all threads, also of those that only wait: with two threads they say what the
machine pays, not how long a caller waits; set OMP_WAIT_POLICY=PASSIVE, so that torch's threads sleep when they wait, as
ONNX Runtime's do here. Needs the extra `engine`.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import process_time

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.released.vocoder import full_size_config, full_size_vocoder
from benchmarks.report import by_turns, machine, table
from services.shared import paths
from services.shared.graphs.cache import Parity
from services.shared.graphs.opening import GraphSettings
from services.shared.graphs.providers import providers_for
from services.shared.graphs.session import GraphSession, Runtime
from services.shared.graphs.spec import GraphSpec
from services.tokenizer import LinguisticEncoder, load_linguistic_encoder
from services.tokenizer import graphs as tokenizer_graphs
from services.tokenizer.engine.export import ensure_tokenizer_graphs, export_encoder
from services.tokenizer.engine.modules import LinguisticEncoderGraph, encoder_inputs
from services.tokenizer.onnx_networks import with_graph
from services.tokenizer.paraformer.config import EncoderConfig
from services.tokenizer.paraformer.sanm import SanmEncoder
from services.vocoder import Vocoder, VoiceFeatures, load_vocoder
from services.vocoder import graphs as vocoder_graphs
from services.vocoder.config import VocoderConfig, load_config
from services.vocoder.engine import modules
from services.vocoder.engine.export import ensure_vocoder_graphs, export_networks
from services.vocoder.flow import Flow
from services.vocoder.hift import HiFT
from services.vocoder.onnx_networks import with_graphs

NANO = Path(__file__).resolve().parents[1] / "model_repository" / "checkpoints" / "nano"
NANO_VOCODER = NANO / paths.TTS_FOLDER / paths.VOCODER_FOLDER
NANO_TOKENIZER = NANO / paths.TOKENIZER_FOLDER
FULL_ENCODER = EncoderConfig(output_size=512, attention_heads=4, linear_units=2048, num_blocks=50)
WINDOWS_FRAMES = (100, 370, 530)
"""Windows of the flow: a first one without a prompt, a first and a late one behind a prompt of 3 s."""
WAVE_FRAMES = (60, 200)
CHUNKS = (1, 4, 40)
PUSH_TOKENS, PUSH_SAMPLES = 5, 3840

HEADER = (
    "size",
    "graph",
    "length",
    "threads",
    "max difference",
    "mean difference",
    "values to",
    "torch / ONNX Runtime",
)


@dataclass(frozen=True, slots=True)
class Case:
    """One graph on one length: both ways of computing it; the one by ONNX Runtime is opened with so many threads."""

    size: str
    name: str
    length: str
    torch_way: Callable[[], Tensor]
    onnx_way: Callable[[int], Callable[[], Tensor]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=("nano", "full"), default=["nano", "full"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("out/onnx_rooms"))
    options = parser.parse_args()
    print(machine())
    rows: list[tuple[object, ...]] = []
    for size in options.sizes:
        for case in nano_cases(options.work) if size == "nano" else full_cases(options.work):
            rows += [measure(case, threads, options.rounds) for threads in options.threads]
    print(table(HEADER, rows))


def measure(case: Case, threads: int, rounds: int) -> tuple[object, ...]:
    """One row of the table."""
    torch.set_num_threads(threads)
    onnx_way = case.onnx_way(threads)
    with torch.inference_mode():
        expected, actual = case.torch_way().float(), onnx_way().float()
        times_s = by_turns({"torch": case.torch_way, "onnx": onnx_way}, rounds=rounds, clock=process_time)
    difference = (expected - actual).abs()
    parity = Parity(difference.max().item(), difference.mean().item(), expected.abs().max().item())
    return (
        case.size,
        case.name,
        case.length,
        threads,
        f"{parity.max_difference:.1e}",
        f"{parity.mean_difference:.1e}",
        f"{parity.scale:.2g}",
        f"{times_s['torch'] / times_s['onnx']:.2f}",
    )


def nano_cases(work: Path) -> Iterator[Case]:
    """The nano checkpoint: its graphs, then both rooms' streams."""
    vocoder, encoder = load_vocoder(NANO_VOCODER), load_linguistic_encoder(NANO_TOKENIZER)
    exported = ensure_vocoder_graphs(NANO_VOCODER, work)
    yield from vocoder_cases("nano", load_config(NANO_VOCODER), vocoder.flow, vocoder.hift, exported.path)
    exported = ensure_tokenizer_graphs(NANO_TOKENIZER, work)
    yield from encoder_cases("nano", encoder.encoder, exported.path)
    yield from streams(vocoder, encoder, work)


def full_cases(work: Path) -> Iterator[Case]:
    """Random weights of the public sizes, exported anew."""
    target = work / "full"
    target.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    full = full_size_vocoder(audio_s=1.0, prompt_s=1.0)
    export_networks(full_size_config(), full.flow, full.hift, target)
    yield from vocoder_cases("full", full_size_config(), full.flow, full.hift, target)
    encoder = SanmEncoder(FULL_ENCODER).eval().requires_grad_(False)
    export_encoder(encoder, target)
    yield from encoder_cases("full", encoder, target)


def vocoder_cases(size: str, config: VocoderConfig, flow: Flow, hift: HiFT, folder: Path) -> Iterator[Case]:
    """Each graph of the vocoder on each length."""
    generator = torch.Generator().manual_seed(1)
    graphs = vocoder_graphs
    of_flow: list[tuple[GraphSpec, nn.Module]] = [
        (graphs.flow_encoder(), modules.FlowEncoderGraph(flow)),
        (graphs.flow_conditions(config), modules.FlowConditionsGraph(flow)),
        (graphs.flow_step(config), modules.FlowStepGraph(flow)),
    ]
    of_hift: list[tuple[GraphSpec, nn.Module]] = [
        (graphs.hift_f0(), modules.HiftF0Graph(hift)),
        (graphs.hift_wave(), modules.HiftWaveGraph(hift)),
    ]
    for frames in WINDOWS_FRAMES:
        inputs = modules.flow_inputs(flow, 1, frames, generator)
        for spec, module in of_flow:
            yield graph_case(size, spec, f"{frames} frames", module, inputs, folder=folder)
    for frames in WAVE_FRAMES:
        inputs = modules.hift_inputs(hift, frames, generator)
        for spec, module in of_hift:
            yield graph_case(size, spec, f"{frames} frames", module, inputs, folder=folder)


def encoder_cases(size: str, encoder: SanmEncoder, folder: Path) -> Iterator[Case]:
    """The linguistic encoder on one and more chunks of 240 ms."""
    generator = torch.Generator().manual_seed(1)
    spec = tokenizer_graphs.linguistic_encoder(encoder.config)
    for chunks in CHUNKS:
        inputs = encoder_inputs(encoder, chunks, generator, hidden=0)
        yield graph_case(size, spec, f"{chunks * 240} ms", LinguisticEncoderGraph(encoder), inputs, folder=folder)


def graph_case(
    size: str, spec: GraphSpec, length: str, module: nn.Module, made: Mapping[str, Tensor], *, folder: Path
) -> Case:
    """A graph beside its module; all outputs are compared, as one row of numbers."""
    inputs = {name: made[name] for name in spec.inputs}

    def torch_way() -> Tensor:
        return joined(module(*inputs.values()))

    def joined(result: Tensor | tuple[Tensor, ...]) -> Tensor:
        parts = [result] if isinstance(result, Tensor) else list(result)
        return torch.cat([part.flatten() for part in parts])

    def onnx_way(threads: int) -> Callable[[], Tensor]:
        path = folder / spec.file
        session = GraphSession(path.read_bytes(), path, Runtime(torch.device("cpu"), providers_for("cpu"), threads))
        result = module(*inputs.values())
        parts = [result] if isinstance(result, Tensor) else list(result)
        outputs = {name: torch.empty_like(part) for name, part in zip(spec.outputs, parts, strict=True)}

        def run() -> Tensor:
            session.run(inputs, outputs)
            return joined(tuple(outputs.values()))

        return run

    return Case(size, spec.name, length, torch_way, onnx_way)


def streams(vocoder: Vocoder, encoder: LinguisticEncoder, work: Path) -> Iterator[Case]:
    """Both rooms as they serve: tokens in groups to samples, samples in chunks to rows."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(0, 5120, 200)
    samples = torch.from_numpy(generator.standard_normal(160_000).astype(np.float32) * 0.1)
    for prompt_s in (0, 3):
        frames = 86 * prompt_s
        voice = VoiceFeatures(
            generator.integers(0, 5120, round(41.6667 * prompt_s)),
            (generator.standard_normal((frames, 80)) - 5).astype(np.float32),
            generator.standard_normal(192).astype(np.float32),
        )

        def speak(room: Vocoder, voice: VoiceFeatures = voice) -> Tensor:
            state, chunks = room.initial_state(0), []
            for place in range(0, len(tokens) + PUSH_TOKENS, PUSH_TOKENS):
                last = place >= len(tokens)
                chunk, state = room.chunk(tokens[place : place + PUSH_TOKENS], voice, state, final=last)
                chunks.append(torch.from_numpy(chunk))
            return torch.cat(chunks)

        def onnx_speak(threads: int, speak: Callable[[Vocoder], Tensor] = speak) -> Callable[[], Tensor]:
            settings = GraphSettings(work, threads=threads)
            flow, hift = with_graphs(vocoder.flow, vocoder.hift, NANO_VOCODER, settings)
            return partial(speak, replace(vocoder, flow=flow, hift=hift))

        yield Case("nano", f"vocoder stream, prompt {prompt_s} s", "4.8 s", partial(speak, vocoder), onnx_speak)

    def hear(room: LinguisticEncoder) -> Tensor:
        state, rows = room.initial_state(), []
        for place in range(0, len(samples), PUSH_SAMPLES):
            last = place + PUSH_SAMPLES >= len(samples)
            encoded, state = room.encode(samples[place : place + PUSH_SAMPLES], state, final=last)
            rows.append(encoded)
        return torch.cat(rows)

    def onnx_hear(threads: int) -> Callable[[], Tensor]:
        return partial(hear, with_graph(encoder, NANO_TOKENIZER, GraphSettings(work, threads=threads)))

    yield Case("nano", "linguistic stream", "10 s", partial(hear, encoder), onnx_hear)


if __name__ == "__main__":
    main()
