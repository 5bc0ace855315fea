"""Pairs of codec values and mel for the flow: the assistant's voices and users', cut to one shape a batch.

    <work>/train/mels/mels.f16        [frames, 80] log-mels, one rendition behind the other
    <work>/train/mels/index.jsonl     first line: the tokenizer; then identity, number, start, frames

Decides: which renditions have a mel (those at the recording's own speed), prompts and crops, and how strongly codes are
disturbed: the speech model writes near codes for right ones, and no two recordings of a sentence share all of theirs.
Refuses to know: losses.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.nano.flow.task import FlowBatch
from services.nano.lm.codes import shaken
from services.nano.tokens.store import FOLDER as TOKENS_FOLDER
from services.nano.tokens.store import Rendition, cut
from services.nano.training.draws import one_of
from services.nano.training.recorded import Clip
from services.shared.audio.files import read_audio
from services.shared.audio.resample import resample
from services.shared.codec.codebooks import GROUP_TOKENS
from services.shared.errors import MissingFileError
from services.shared.nn.features import PROMPT_MEL_RATE_HZ, PROMPT_MELS, mel_spectrogram_22k
from services.vocoder.config import HOP_SAMPLES
from services.vocoder.flow.model import Flow
from services.vocoder.voice import VoiceFeatures

FOLDER: Final = "train/mels"
BATCH: Final = 8
PROMPT_GROUPS: Final = 10
_GROUPS: Final = (8, 14, 20)
_PROMPT_SHARE: Final = 0.8
_MOST_SHAKEN: Final = 0.1
_JUDGED: Final = 16
_MELS_FILE: Final = "mels.f16"
_INDEX_FILE: Final = "index.jsonl"

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """One rendition with its mel.

    Attributes:
        voice: who speaks.
        text: what is said.
        is_judged: held out of training.
        values: [5 * groups] codec values.
        mel: [frames, 80] float16.
        embedding: [S] speaker embedding of the recording.
        phones: [frames] the phone that sounds in each frame.
    """

    voice: str
    text: str
    is_judged: bool
    values: NDArray[np.int64]
    mel: NDArray[np.float16]
    embedding: NDArray[np.float32]
    phones: NDArray[np.int64]

    @property
    def groups(self) -> int:
        """Whole groups of 120 ms."""
        return len(self.values) // GROUP_TOKENS


def wave_of(clip: Clip, rendition: Rendition) -> NDArray[np.float32]:
    """[N] samples at 22.05 kHz of what a rendition at the recording's own speed stands for."""
    audio = read_audio(clip.recording.path)
    begin_s = rendition.begin_s
    samples = cut(audio.samples, audio.sample_rate_hz, begin_s, begin_s + rendition.seconds)
    return resample(samples * np.float32(_level(clip)), audio.sample_rate_hz, PROMPT_MEL_RATE_HZ)


def mel_of(clip: Clip, rendition: Rendition) -> NDArray[np.float16]:
    """[frames, 80] mel of `wave_of`."""
    return mel_spectrogram_22k(torch.from_numpy(wave_of(clip, rendition)))[0].half().numpy()


def phones_of(clip: Clip, rendition: Rendition, frames: int) -> NDArray[np.int64]:
    """[frames] the phone that sounds in the middle of each mel frame of a rendition."""
    seconds = (np.arange(frames) + 0.5) * HOP_SAMPLES / PROMPT_MEL_RATE_HZ
    return clip.labels_at(rendition.begin_s + rendition.speed * seconds)


def make_mels(work: Path, clips: Sequence[Clip], renditions: Mapping[str, list[Rendition]]) -> None:
    """Compute the mels that are missing; those of another tokenizer's renditions are made again."""
    folder = work / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    index, fingerprint = folder / _INDEX_FILE, _fingerprint(work)
    if not index.exists() or index.read_text().splitlines()[:1] != [json.dumps(fingerprint)]:
        index.write_text(json.dumps(fingerprint) + "\n")
    rows = _rows(folder)
    done = {(row[0], row[1]) for row in rows}
    end = max((row[2] + row[3] for row in rows), default=0)
    with (folder / _MELS_FILE).open("ab") as data, index.open("a") as log:
        data.truncate(2 * PROMPT_MELS * end)
        data.seek(2 * PROMPT_MELS * end)
        for clip in clips:
            for rendition in renditions.get(clip.recording.identity, []):
                if rendition.speed != 1.0 or (rendition.identity, rendition.number) in done:
                    continue
                mel = mel_of(clip, rendition)
                data.write(mel.tobytes())
                data.flush()
                log.write(json.dumps([rendition.identity, rendition.number, end, len(mel)]) + "\n")
                end += len(mel)


def read_spoken(
    work: Path,
    clips: Sequence[Clip],
    renditions: Mapping[str, list[Rendition]],
    embeddings: Mapping[str, NDArray[np.float32]],
) -> list[Spoken]:
    """Every rendition that has a mel, with the embedding of its recording."""
    folder = work / FOLDER
    mels = np.memmap(folder / _MELS_FILE, np.float16, mode="r").reshape(-1, PROMPT_MELS)
    clip_of = {clip.recording.identity: clip for clip in clips}
    rendition_of = {(r.identity, r.number): r for own in renditions.values() for r in own}
    spoken = []
    for identity, number, start, frames in _rows(folder):
        if identity in clip_of and (identity, number) in rendition_of:
            clip = clip_of[identity]
            voice = clip.recording.voices[0][0]
            own = mels[start : start + frames]
            rendition = rendition_of[identity, number]
            phones = phones_of(clip, rendition, frames)
            text, values = clip.recording.text, rendition.values
            spoken.append(Spoken(voice, text, clip.is_judged, values, own, embeddings[identity], phones))
    return spoken


class FlowCorpus:
    """Batches of `Spoken`: see `services.nano.flow.task.FlowData`.

    Args:
        spoken: everything, held-out utterances among it.
        flow: whose frame counts apply.
        near: [5120, 6] near codec values.

    Raises:
        MissingFileError: nothing is long enough for a batch.
    """

    def __init__(self, spoken: Sequence[Spoken], flow: Flow, near: NDArray[np.int64]) -> None:
        self._flow, self._near = flow, near
        self._training = [one for one in spoken if not one.is_judged]
        known = {one.text for one in self._training}
        self._held = sorted((one for one in spoken if one.is_judged), key=lambda one: one.text in known)
        self._long = {g: [one for one in self._training if one.groups >= g] for g in (*_GROUPS, PROMPT_GROUPS)}
        self._groups = [g for g in _GROUPS if self._long[g]]
        if not self._groups or not self._long[PROMPT_GROUPS]:
            raise MissingFileError("no spoken replies of one second and more; run the stages `speech` and `tokens`")
        self._prompts: dict[str, list[Spoken]] = {}
        for one in self._long[PROMPT_GROUPS]:
            self._prompts.setdefault(one.voice, []).append(one)

    def frames(self) -> Tensor:
        """[T, 80] all training frames, to measure their scale."""
        return torch.from_numpy(np.concatenate([one.mel for one in self._training]).astype(np.float32))

    def draw(self, rng: np.random.Generator) -> FlowBatch:
        """A batch; most have a prompt, another utterance of the same voice."""
        groups = one_of(self._groups, rng)
        prompt_groups = PROMPT_GROUPS if rng.random() < _PROMPT_SHARE else 0
        prompt_frames = self._flow.frame_count(GROUP_TOKENS * prompt_groups)
        frames = self._flow.frame_count(GROUP_TOKENS * groups)
        tokens, mels, embeddings, phones = [], [], [], []
        share = float(rng.uniform(0, _MOST_SHAKEN))
        for _ in range(BATCH):
            one = one_of(self._long[groups], rng)
            prompt = one_of(self._prompts.get(one.voice, [one]), rng)
            parts = [self._crop(one, groups, frames, rng)]
            if prompt_groups:
                parts.insert(0, self._crop(prompt, prompt_groups, prompt_frames, rng))
            values, mel, said = (np.concatenate(part) for part in zip(*parts, strict=True))
            tokens.append(shaken(values, self._near, share, rng))
            mels.append(mel)
            phones.append(said)
            embeddings.append(prompt.embedding)
        wanted = torch.from_numpy(np.stack(mels).astype(np.float32)).transpose(1, 2).contiguous()
        return FlowBatch(
            torch.from_numpy(np.stack(tokens)),
            GROUP_TOKENS * prompt_groups,
            wanted,
            prompt_frames,
            torch.from_numpy(np.stack(embeddings)),
            torch.from_numpy(np.stack(phones)),
        )

    def judged(self) -> list[tuple[Tensor, VoiceFeatures, Tensor]]:
        """Held-out utterances, those of texts never heard first, each behind a prompt of its voice."""
        rng = np.random.default_rng(0)
        out = []
        for one in [one for one in self._held or self._training if one.voice in self._prompts][:_JUDGED]:
            prompt = one_of(self._prompts[one.voice], rng)
            frames = self._flow.frame_count(GROUP_TOKENS * PROMPT_GROUPS)
            values, mel, _ = self._crop(prompt, PROMPT_GROUPS, frames, rng)
            voice = VoiceFeatures(values, mel.astype(np.float32), prompt.embedding)
            wanted = _fitted(one.mel, self._flow.frame_count(len(one.values))).astype(np.float32)
            out.append((torch.from_numpy(one.values), voice, torch.from_numpy(wanted).T[None]))
        return out

    def _crop(
        self, one: Spoken, groups: int, frames: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float16], NDArray[np.int64]]:
        """Values, mel and phones of some neighbouring groups."""
        first = int(rng.integers(0, one.groups - groups + 1))
        start = round(first * GROUP_TOKENS / self._flow.tokens_per_frame)
        values = one.values[first * GROUP_TOKENS :][: groups * GROUP_TOKENS]
        return values, _fitted(one.mel[start:], frames), _fitted(one.phones[start:], frames)


def _fitted(rows: NDArray[T], frames: int) -> NDArray[T]:
    """The first frames; the last one is repeated where one is missing."""
    missing = max(frames - len(rows), 0)
    return np.pad(rows[:frames], ((0, missing), *[(0, 0)] * (rows.ndim - 1)), mode="edge")


def _level(clip: Clip) -> float:
    """Factor that brings the recording's peak to 0.8: the level the voice is to speak at."""
    return 0.8 / max(float(np.abs(clip.samples).max()), 1e-3)


def _fingerprint(work: Path) -> str:
    with (work / TOKENS_FOLDER / _INDEX_FILE).open() as lines:
        return str(json.loads(lines.readline()))


def _rows(folder: Path) -> list[tuple[str, int, int, int]]:
    lines = (folder / _INDEX_FILE).read_text().splitlines(keepends=True)[1:]
    return [tuple(json.loads(line)) for line in lines if line.endswith("\n")]
