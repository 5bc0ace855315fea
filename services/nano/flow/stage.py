"""Stage `flow`: mels and embeddings of the assistant's speech, training, and flow.pt in the raw interface.

Decides: the schedule, how the network begins, and what is written. Refuses to know: losses.
"""

import logging
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from services.nano.flow.data import FlowCorpus, make_mels, read_spoken
from services.nano.flow.fold import MelScale, measure_scale, start_linear, unfold
from services.nano.flow.task import FlowTask, folded_flow
from services.nano.lm.codes import near_values, read_codebooks, starting_vectors
from services.nano.standing import begun_from, eased
from services.nano.tokenizers.stage import CHECKPOINT_FOLDER
from services.nano.tokens.store import read_renditions
from services.nano.training.loop import Budget, Schedule, has_begun, load_weights, train
from services.nano.training.recorded import Clip, read_clips
from services.shared.codec.codebooks import LINGUISTIC_SIZE
from services.shared.nn.checkpoint import load_strictly, read_torch_state
from services.shared.paths import TOKENIZER_FOLDER, TTS_FOLDER, VOCODER_FOLDER
from services.vocoder.config import CONFIG_FILE, FLOW_FILE, load_config
from services.vocoder.flow.model import Flow
from services.vocoder.speaker import load_speaker

TRAIN_FOLDER: Final = "train/flow"
MU_FOLDER: Final = "train/flow_mu"
MU_SCHEDULE: Final = Schedule(steps=26_000, learning_rate=2e-3, warm_up_steps=200, average=0.998, judge_every=500)
SCHEDULE: Final = Schedule(steps=20_000, learning_rate=1e-3, warm_up_steps=200, average=0.999, judge_every=500)
_SCALE_FILE: Final = "scale.pt"
_SEED: Final = 20_261
_SPOKEN_BY_US: Final = ("assistant", "everyday")

_log = logging.getLogger(__name__)


def run(work: Path, budget: Budget, *, steps: int | None = None) -> bool:
    """Train, and write flow.pt of the best judgement so far.

    Args:
        work: the working folder; `tokens` and `speaker` have run there.
        budget: of each of the two trainings, of mu alone and of everything.
        steps: length of both schedules instead of the recipe's.

    Returns:
        whether the schedule is finished.
    """
    folder = vocoder_folder(work)
    flow, corpus = prepare(work)
    scale = scale_of(work, corpus)
    torch.manual_seed(_SEED)
    if standing := begun_from(work):
        take_over(flow, scale, standing / TTS_FOLDER / VOCODER_FOLDER / FLOW_FILE)
    else:
        start(flow, scale, read_codebooks(work / CHECKPOINT_FOLDER / TOKENIZER_FOLDER))
    mu_schedule, schedule = (
        eased(s if steps is None else replace(s, steps=steps), work) for s in (MU_SCHEDULE, SCHEDULE)
    )
    if not has_begun(work / TRAIN_FOLDER):
        if not train(FlowTask(flow, scale, corpus, estimating=False), work / MU_FOLDER, mu_schedule, budget):
            return False
        load_weights(flow, work / MU_FOLDER)
    finished = train(FlowTask(flow, scale, corpus), work / TRAIN_FOLDER, schedule, budget)
    if finished:
        load_weights(flow, work / TRAIN_FOLDER)
        write_flow(flow, scale, folder)
    return finished


def vocoder_folder(work: Path) -> Path:
    """The vocoder's folder of the checkpoint, with its configuration in place."""
    folder = work / CHECKPOINT_FOLDER / TTS_FOLDER / VOCODER_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text((files("services.nano") / "data" / CONFIG_FILE).read_text())
    return folder


def prepare(work: Path) -> tuple[Flow, FlowCorpus]:
    """The network, and what it learns from."""
    folder = vocoder_folder(work)
    clips = [clip for clip in read_clips(work) if _is_of_use(clip)]
    made = read_renditions(work)
    ours = {clip.recording.identity for clip in clips if clip.recording.kind in _SPOKEN_BY_US}
    # What users say is disturbed in later renditions, and the mel is of the recording.
    renditions = {identity: own if identity in ours else own[:1] for identity, own in made.items()}
    make_mels(work, clips, renditions)
    speaker = load_speaker(folder)
    flow = Flow(load_config(folder).flow)
    spoken = read_spoken(work, clips, renditions, {c.recording.identity: speaker.embed(c.samples) for c in clips})
    _log.info("flow: %d utterances with a mel", len(spoken))
    near = near_values(read_codebooks(work / CHECKPOINT_FOLDER / TOKENIZER_FOLDER))
    return flow, FlowCorpus(spoken, flow, near)


def _is_of_use(clip: Clip) -> bool:
    """Whether the flow learns from a clip: the assistant's, and users' whose voice is no mix, for clones."""
    recording = clip.recording
    is_one_voice = recording.kind == "user" and len(recording.voices) == 1
    return recording.kind in _SPOKEN_BY_US or (is_one_voice and not clip.is_judged)


def scale_of(work: Path, corpus: FlowCorpus) -> MelScale:
    """The coordinates: measured once, for the weights depend on them."""
    path = work / TRAIN_FOLDER / _SCALE_FILE
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        measured = measure_scale(corpus.frames())
        torch.save([measured.mean, measured.spread], path)
    mean, spread = torch.load(path, weights_only=True)
    return MelScale(mean, spread)


@torch.no_grad()
def start(flow: Flow, scale: MelScale, books: tuple[Tensor, Tensor]) -> None:
    """First values: near codes have near rows, mu begins at the mean mel, the velocity at mu minus the state."""
    flow.input_embedding.weight.copy_(starting_vectors(books, flow.input_embedding.embedding_dim))
    start_linear(flow.estimator, scale)
    last = flow.length_regulator.model[-1]
    assert isinstance(last, nn.Conv1d)
    assert last.bias is not None
    last.weight.mul_(scale.spread[:, None, None])
    last.bias.copy_(scale.mean)


def take_over(flow: Flow, scale: MelScale, path: Path) -> None:
    """First values out of a file that `write_flow` has written."""
    load_strictly(flow, read_torch_state(path), path)
    unfold(flow.estimator, scale)


def write_flow(flow: Flow, scale: MelScale, folder: Path) -> None:
    """Write flow.pt in half precision; the second codes of pairs (512 ..) get the rows of the first."""
    plain = folded_flow(flow, scale)
    half = LINGUISTIC_SIZE // 2
    table = plain.input_embedding.weight.data
    table[half:LINGUISTIC_SIZE] = table[:half]
    torch.save({name: value.half() for name, value in plain.state_dict().items()}, folder / FLOW_FILE)
