"""Stage `tokenizers`: train both encoders, find their codebooks, write the folder the tokenizer room loads.

    encoder, rows as they are -> k-means -> encoder and codebook together -> k-means from there -> files

Decides: schedules, which rows the codebooks are made of, and the order of the parts. Each part is skipped when its
result is there and no older than what it is made of.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from services.nano.tokenizers.folder import USED_CODES, write_linguistic, write_semantic
from services.nano.tokenizers.kmeans import kmeans
from services.nano.tokenizers.linguistic import SIZES, LinguisticTask, encode_packed, features_of, normalisation
from services.nano.tokenizers.quantiser import CENTROIDS
from services.nano.tokenizers.semantic import ROW_SIZE, SemanticNetwork, SemanticTask
from services.nano.training.augment import Heard, hear
from services.nano.training.batches import HeardSpeech
from services.nano.training.loop import WEIGHTS_FILE, Budget, Schedule, has_begun, load_weights, read_helpers, train
from services.nano.training.recorded import RATE_HZ, Clip, read_clips
from services.shared.nn.features import whisper_log_mel
from services.shared.paths import CENTROIDS_FILE, SEMANTIC_ONNX_FILE, TOKENIZER_FOLDER
from services.tokenizer.paraformer.frontend import OnlineFrontEnd
from services.tokenizer.paraformer.sanm import NEW_ROWS, SanmEncoder

LINGUISTIC_FOLDER: Final = "train/linguistic"
SEMANTIC_FOLDER: Final = "train/semantic"
CHECKPOINT_FOLDER: Final = "checkpoint"
"""Where the finished parts are put together in the public layout."""
LINGUISTIC: Final = Schedule(steps=6000, learning_rate=2e-3, average=0.995, judge_every=250)
SEMANTIC: Final = Schedule(steps=10_000, learning_rate=2e-3, average=0.995, judge_every=500)
LINGUISTIC_CODES_FOLDER: Final = "train/linguistic_codes"
SEMANTIC_CODES_FOLDER: Final = "train/semantic_codes"
LINGUISTIC_CODES: Final = Schedule(steps=2500, learning_rate=1e-3, average=0.99, judge_every=250)
SEMANTIC_CODES: Final = Schedule(steps=3000, learning_rate=1e-3, average=0.99, judge_every=500)
_NORMALISATION_FILE: Final = "normalisation.pt"
_NORMALISATION_BATCHES: Final = 8
_ROWS: Final = 120_000
_ASSISTANT_WEIGHT: Final = 3.0
_SEED: Final = 20_261

_log = logging.getLogger(__name__)


def run(work: Path, budget: Budget, *, steps: int | None = None) -> bool:
    """Train what is not trained, then write <work>/checkpoint/Step-Audio-Tokenizer.

    Args:
        work: the working folder.
        budget: of each of the four trainings.
        steps: length of each schedule instead of the recipe's.

    Returns:
        whether the folder is complete.
    """
    clips = read_clips(work)
    _log.info("tokenizers: %d clips, %.1f h", len(clips), sum(len(c.samples_i16) for c in clips) / RATE_HZ / 3600)
    speech = HeardSpeech(clips)
    shift, scale = _normalisation(work / LINGUISTIC_FOLDER, speech)
    torch.manual_seed(_SEED)
    linguistic = LinguisticTask(speech, shift, scale)
    semantic = SemanticTask(speech)
    # The faster one first: it needs a third of the time, and both are needed for the first codes.
    finished = train(semantic, work / SEMANTIC_FOLDER, _of_length(SEMANTIC, steps), budget)
    finished &= train(linguistic, work / LINGUISTIC_FOLDER, _of_length(LINGUISTIC, steps), budget)
    if not finished:
        return False
    chosen = _chosen(clips)
    finished = _learn_semantic_codes(work, speech, chosen, _of_length(SEMANTIC_CODES, steps), budget)
    finished &= _learn_linguistic_codes(work, speech, chosen, _of_length(LINGUISTIC_CODES, steps), budget)
    if finished:
        write_codebooks(work, chosen)
    return finished


def write_codebooks(work: Path, chosen: Sequence[Heard]) -> None:
    """Make codebooks of the kept weights and write the folder."""
    folder = work / CHECKPOINT_FOLDER / TOKENIZER_FOLDER
    figures = {}
    if _is_older(folder / CENTROIDS_FILE, work / LINGUISTIC_CODES_FOLDER):
        encoder = SanmEncoder(SIZES).eval()
        load_weights(encoder, work / LINGUISTIC_CODES_FOLDER)
        encoder = encoder.half().float()  # the weights as they are written
        shift, scale = torch.load(work / LINGUISTIC_FOLDER / _NORMALISATION_FILE, weights_only=True)
        rows = [_linguistic_rows(encoder, shift, scale, heard) for heard in chosen]
        centroids, figures["linguistic"] = _codebook(rows, chosen, _learned(work / LINGUISTIC_CODES_FOLDER))
        write_linguistic(encoder, shift, scale, centroids, folder)
    if _is_older(folder / SEMANTIC_ONNX_FILE, work / SEMANTIC_CODES_FOLDER):
        network = SemanticNetwork().eval()
        load_weights(network, work / SEMANTIC_CODES_FOLDER)
        rows = [_semantic_rows(network, heard) for heard in chosen]
        centroids, figures["semantic"] = _codebook(rows, chosen, _learned(work / SEMANTIC_CODES_FOLDER))
        write_semantic(network, centroids, folder)
    for name, left in figures.items():
        _log.info("tokenizers: %s codebook, %.1f %% of the variance left", name, 100 * left)
    if figures:
        path = work / "train" / "codebooks.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**known, **figures}))


def _learn_semantic_codes(
    work: Path, speech: HeardSpeech, chosen: Sequence[Heard], schedule: Schedule, budget: Budget
) -> bool:
    """The encoder of rows goes on with their codes. Returns whether the schedule is finished."""
    folder, network = work / SEMANTIC_CODES_FOLDER, SemanticNetwork()
    load_weights(network, work / SEMANTIC_FOLDER)
    centroids = torch.zeros(USED_CODES, ROW_SIZE)
    if not has_begun(folder):
        centroids, _ = _codebook([_semantic_rows(network, heard) for heard in chosen], chosen)
    return train(SemanticTask(speech, network, centroids), folder, schedule, budget)


def _learn_linguistic_codes(
    work: Path, speech: HeardSpeech, chosen: Sequence[Heard], schedule: Schedule, budget: Budget
) -> bool:
    """The encoder of rows goes on with their codes. Returns whether the schedule is finished."""
    folder, (shift, scale) = work / LINGUISTIC_CODES_FOLDER, _normalisation(work / LINGUISTIC_FOLDER, speech)
    encoder = SanmEncoder(SIZES)
    load_weights(encoder, work / LINGUISTIC_FOLDER)
    centroids = torch.zeros(USED_CODES, SIZES.output_size)
    if not has_begun(folder):
        centroids, _ = _codebook([_linguistic_rows(encoder, shift, scale, heard) for heard in chosen], chosen)
    return train(LinguisticTask(speech, shift, scale, encoder, centroids), folder, schedule, budget)


def _learned(folder: Path) -> Tensor:
    """The codebook that an encoder was trained with last."""
    return read_helpers(folder)[CENTROIDS]


def _of_length(schedule: Schedule, steps: int | None) -> Schedule:
    return schedule if steps is None else replace(schedule, steps=steps)


def _normalisation(folder: Path, speech: HeardSpeech) -> tuple[Tensor, Tensor]:
    """The front end's shift and scale: measured once, for the weights depend on them."""
    path = folder / _NORMALISATION_FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        batches = [speech.draw(np.random.default_rng([_SEED, number])) for number in range(_NORMALISATION_BATCHES)]
        torch.save(normalisation([heard for batch in batches for heard in batch]), path)
    shift, scale = torch.load(path, weights_only=True)
    return shift, scale


def _chosen(clips: Sequence[Clip]) -> list[Heard]:
    """Whole clips of every kind in a fixed random order, enough for the codebooks' rows; half of them disturbed."""
    training = [clip for clip in clips if not clip.is_judged]
    rng = np.random.default_rng(_SEED)
    chosen: list[Heard] = []
    rows = 0.0
    for place in rng.permutation(len(training)):
        clip = training[int(place)]
        length = round(len(clip.samples_i16) * 1.05)
        chosen.append(hear(clip, length, rng, clean=rng.random() < 0.5))
        rows += length / RATE_HZ / 0.06
        if rows > _ROWS:
            break
    return chosen


@torch.no_grad()
def _linguistic_rows(encoder: SanmEncoder, shift: Tensor, scale: Tensor, heard: Heard) -> Tensor:
    front_end = OnlineFrontEnd(shift, scale, dither=0.0, released_quirks=False)
    features = features_of(front_end, heard)
    features = features[: len(features) // NEW_ROWS * NEW_ROWS]
    return (
        encode_packed(encoder, features[None])[0]
        if len(features)
        else features.new_zeros(0, encoder.config.output_size)
    )


@torch.no_grad()
def _semantic_rows(network: SemanticNetwork, heard: Heard) -> Tensor:
    rows: Tensor = network(whisper_log_mel(torch.from_numpy(heard.samples))[None])[0]
    return rows


def _codebook(rows: Sequence[Tensor], chosen: Sequence[Heard], start: Tensor | None = None) -> tuple[Tensor, float]:
    """Centroids, and the share of variance left; rows of the voice that is to speak count more."""
    assistant = {"assistant", "everyday"}
    counts = [_ASSISTANT_WEIGHT if heard.clip.recording.kind in assistant else 1.0 for heard in chosen]
    weights = torch.cat([torch.full((len(own),), weight) for own, weight in zip(rows, counts, strict=True)])
    return kmeans(torch.cat(list(rows)), USED_CODES, weights, seed=_SEED, start=start)


def _is_older(path: Path, trained: Path) -> bool:
    return not path.exists() or path.stat().st_mtime < (trained / WEIGHTS_FILE).stat().st_mtime
