"""How much of what is said the codes of a working folder's tokenizers hold: phones read off them by a small network.

    python -m benchmarks.nano_codes --work runs/nano [--steps 1500]

The flow's own encoder with three convolutions behind it learns to name the phone of each mel frame from the assistant's
codes (some 100 CPU-s), and reads held-out recordings. Whatever hears or speaks through these codes is bound by this; so
look here before the later stages of `services.nano` are trained. The stages `speech`, `tokenizers`, `tokens` have run.
"""

import argparse
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.nano.figures import edit_distance, error_rate, mean
from benchmarks.report import machine, table
from services.nano.flow.data import phones_of
from services.nano.flow.stage import vocoder_folder
from services.nano.flow.task import PhoneReader
from services.nano.lm.codes import read_codebooks, starting_vectors
from services.nano.phones import LABELS
from services.nano.tokenizers.stage import CHECKPOINT_FOLDER
from services.nano.tokens.store import read_renditions
from services.nano.training.recorded import read_clips
from services.shared.codec.codebooks import GROUP_TOKENS
from services.shared.errors import MissingFileError
from services.shared.paths import TOKENIZER_FOLDER
from services.vocoder.config import load_config
from services.vocoder.flow.encoder import stretch
from services.vocoder.flow.model import Flow

_GROUPS: Final = 16
_BATCH: Final = 12
_RATE: Final = 2e-3
_WARM_UP_STEPS: Final = 100
_KINDS: Final = ("assistant", "everyday")

Labelled = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Codec values [5 * groups], and the phone class of each mel frame."""


class Reader(nn.Module):
    """Codec values to phones: the flow's encoder, and what reads them off it when the flow is trained."""

    def __init__(self, flow: Flow, codebooks: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self.flow = flow
        self.head = PhoneReader(flow.config.encoder.output_size)
        with torch.no_grad():
            flow.input_embedding.weight.copy_(starting_vectors(codebooks, flow.input_embedding.embedding_dim))

    def forward(self, values: Tensor) -> Tensor:
        """[B, 5 * groups] -> [B, classes, frames]."""
        rows = self.flow.encoder(self.flow.input_embedding(values))
        out: Tensor = self.head(stretch(rows, self.flow.frame_count(values.shape[1])).transpose(1, 2))
        return out


def labelled(work: Path, flow: Flow) -> tuple[list[Labelled], list[Labelled]]:
    """The assistant's renditions to learn from, and the undisturbed ones that are held out.

    Raises:
        MissingFileError: there are none.
    """
    renditions = read_renditions(work)
    training: list[Labelled] = []
    held: list[Labelled] = []
    for clip in read_clips(work):
        for one in renditions.get(clip.recording.identity, ()) if clip.recording.kind in _KINDS else ():
            pair = one.values, phones_of(clip, one, flow.frame_count(len(one.values)))
            if not clip.is_judged:
                training.append(pair)
            elif not one.number:
                held.append(pair)
    training = [pair for pair in training if len(pair[0]) >= _GROUPS * GROUP_TOKENS]
    if not training or not held:
        raise MissingFileError(
            f"{work} holds no codes to learn from and to judge; run `speech`, `tokenizers`, `tokens`"
        )
    return training, held


def train(reader: Reader, training: Sequence[Labelled], steps: int) -> None:
    """Learn from pieces of one length."""
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=_RATE)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1.0, step / _WARM_UP_STEPS) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        values, labels = (
            torch.from_numpy(np.stack(part)) for part in zip(*_pieces(reader.flow, training, rng), strict=True)
        )
        loss = F.cross_entropy(reader(values), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _pieces(flow: Flow, training: Sequence[Labelled], rng: np.random.Generator) -> Iterator[Labelled]:
    frames = flow.frame_count(_GROUPS * GROUP_TOKENS)
    for _ in range(_BATCH):
        values, labels = training[int(rng.integers(len(training)))]
        first = int(rng.integers(len(values) // GROUP_TOKENS - _GROUPS + 1))
        start = min(round(first * GROUP_TOKENS / flow.tokens_per_frame), len(labels) - frames)
        yield values[first * GROUP_TOKENS :][: _GROUPS * GROUP_TOKENS], labels[start:][:frames]


def said(labels: Sequence[int]) -> list[str]:
    """Phones in order: runs of one class are one, silence is none."""
    return [LABELS[label] for label, _ in itertools.groupby(labels) if label]


@torch.no_grad()
def figures(reader: Reader, held: Sequence[Labelled]) -> list[list[object]]:
    """Rows of the table."""
    errors, right = [], []
    for values, labels in held:
        found = reader(torch.from_numpy(values)[None])[0].argmax(0).numpy()
        errors.append((edit_distance(said(found.tolist()), said(labels.tolist())), len(said(labels.tolist()))))
        right.append(float((found == labels)[labels > 0].mean()))
    return [["phones wrong", error_rate(errors)], ["sounding frames right", mean(right)]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, read, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nano_codes", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="working folder of `python -m services.nano`")
    parser.add_argument("--steps", type=int, default=1500, help="of the network that reads")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    flow = Flow(load_config(vocoder_folder(chosen.work)).flow)
    training, held = labelled(chosen.work, flow)
    reader = Reader(flow, read_codebooks(chosen.work / CHECKPOINT_FOLDER / TOKENIZER_FOLDER))
    train(reader, training, chosen.steps)
    print(machine())
    print(f"{len(training)} renditions to learn from, {len(held)} to judge; {chosen.steps} steps\n")
    print(table(["figure", "measured (95 %)"], figures(reader, held)))


if __name__ == "__main__":
    main()
