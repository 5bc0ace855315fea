"""How far the semantic codes of the `segmented` mode agree with those of `whole`, and what it costs in waiting.

    python -m benchmarks.segmented_agreement [--checkpoint FOLDER] [--clips FOLDER]

Agreement is the share of equal codes, clip after clip, on the nano checkpoint and its spoken questions by default. A
clip shorter than segment + look-ahead is the same run in both modes and says nothing, so the clips are also joined into
one recording of about a minute, in pieces of at most 30 s.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import machine, table
from services.shared.audio.files import read_audio
from services.shared.audio.pcm import Samples
from services.shared.audio.speech_input import prepare
from services.shared.paths import TOKENIZER_FOLDER
from services.tokenizer import SegmentPlan, SemanticEncoder, load_semantic_encoder
from services.tokenizer.semantic.encoder import PIECE_SAMPLES
from services.tokenizer.semantic.streaming import SegmentedStream

ROOT = Path(__file__).resolve().parents[1]
NANO_TOKENIZER = ROOT / "model_repository" / "checkpoints" / "nano" / TOKENIZER_FOLDER
NANO_CLIPS = ROOT / "benchmarks" / "data" / "nano_questions" / "wav"

PLANS = [
    SegmentPlan(segment_ms=segment_ms, context_ms=context_ms, lookahead_ms=lookahead_ms)
    for segment_ms, context_ms, lookahead_ms in (
        (480, 120, 0),
        (480, 4800, 0),
        (480, 1920, 240),
        (240, 4800, 240),
        (480, 4800, 240),
        (240, 1920, 480),
        (240, 4800, 480),
        (480, 4800, 480),
        (480, 9600, 480),
        (960, 4800, 240),
        (960, 4800, 480),
        (4800, 9600, 960),
    )
]


def agreement(encoder: SemanticEncoder, clips: Sequence[Samples], plan: SegmentPlan) -> float:
    """Share of semantic codes that are equal in both modes, over all clips (each of at most 30 s)."""
    stream = SegmentedStream(encoder, plan)
    equal = total = 0
    for clip in clips:
        whole = encoder.encode(clip)
        segmented, _ = stream.push(clip, stream.initial_state(), final=True)
        equal += int((whole == segmented).sum())
        total += len(whole)
    return equal / total


def load_clips(folder: Path) -> list[Samples]:
    """Every wav of the folder as the tokenizer sees it: 16 kHz, normalised."""
    return [
        prepare(audio.samples, audio.sample_rate_hz, trim=False)
        for audio in map(read_audio, sorted(folder.glob("*.wav")))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=NANO_TOKENIZER, help="a Step-Audio-Tokenizer folder")
    parser.add_argument("--clips", type=Path, default=NANO_CLIPS, help="a folder of wav files")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    encoder = load_semantic_encoder(arguments.checkpoint)
    clips = load_clips(arguments.clips)
    joined = np.concatenate(clips)
    long_clips = [joined[start : start + PIECE_SAMPLES] for start in range(0, len(joined), PIECE_SAMPLES)]
    rows = [
        (
            plan.segment_ms,
            plan.context_ms,
            plan.lookahead_ms,
            plan.latency_ms,
            f"{agreement(encoder, clips, plan):.3f}",
            f"{agreement(encoder, long_clips, plan):.3f}",
        )
        for plan in PLANS
    ]
    header = ["segment ms", "context ms", "look-ahead ms", "latency ms", f"{len(clips)} clips", "joined"]
    print(f"{machine()}\n{sum(map(len, clips)) / 16_000:.0f} s of speech, {arguments.checkpoint.name}\n")
    print(table(header, rows))


if __name__ == "__main__":
    main()
