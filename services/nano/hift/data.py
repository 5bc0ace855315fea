"""Waves, mels and F0 of the assistant's speech for HiFT, and the mels that the trained flow makes of its codec values.

    <work>/train/waves/index.jsonl    identity, first frame, frames; a line is written after its data
    <work>/train/waves/waves.i16      [frames * 256] samples at 22.05 kHz; beside it mels.f16 and f0.f16
    <work>/train/made/index.jsonl     first line: the flow; then identity, first frame, frames; beside it mels.f16

Decides: which renditions take part, crops, and how often a mel is a made one or a disturbed one.
Refuses to know: losses.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.nano.flow.data import PROMPT_GROUPS, wave_of
from services.nano.hift.pitch import pitch
from services.nano.tokens.store import Rendition
from services.nano.training.draws import one_of
from services.nano.training.recorded import Clip
from services.shared.codec.codebooks import GROUP_TOKENS
from services.shared.errors import MissingFileError
from services.shared.nn.features import PROMPT_MEL_HOP_SAMPLES, PROMPT_MELS, mel_spectrogram_22k
from services.vocoder.config import CONFIG_FILE, FLOW_FILE
from services.vocoder.flow import load_flow
from services.vocoder.speaker import load_speaker
from services.vocoder.voice import VoiceFeatures

WAVES_FOLDER: Final = "train/waves"
MADE_FOLDER: Final = "train/made"
MADE_MOST: Final = 600
"""Utterances that the flow makes again, judged ones among them: it takes a quarter of their length."""
FRAMES: Final = 32
BATCH: Final = 4
_MADE_SHARE: Final = 0.4
_DISTURBED_SHARE: Final = 0.3
_DISTURBANCE: Final = 0.4
_JUDGED: Final = 8
_JUDGED_FRAMES: Final = 160
_I16: Final = 32_767.0
_LOG_EVERY: Final = 500

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """One utterance of M frames.

    Attributes:
        identity: of the recording.
        is_judged: held out of training.
        wave_i16: [256 M] at 22.05 kHz.
        mel: [M, 80] log-mel of the wave.
        f0: [M] Hz, 0 where unvoiced.
        made: [M', 80] what the flow makes of the codec values, M' near M; None where it was not asked.
    """

    identity: str
    is_judged: bool
    wave_i16: NDArray[np.int16]
    mel: NDArray[np.float16]
    f0: NDArray[np.float16]
    made: NDArray[np.float16] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class WaveBatch:
    """Crops of one length: mel [B, 80, F] as the network reads it, wave [B, 256 F], f0 [B, F] as recorded."""

    mel: Tensor
    wave: Tensor
    f0: Tensor


def make_waves(work: Path, clips: Sequence[Clip], renditions: Mapping[str, list[Rendition]]) -> None:
    """Write what is missing of the undisturbed renditions of these clips."""
    folder = work / WAVES_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.jsonl").touch()
    rows = _rows(folder)
    done, end = {row[0] for row in rows}, max((row[1] + row[2] for row in rows), default=0)
    missing = [c for c in clips if c.recording.identity in renditions and c.recording.identity not in done]
    widths = {"waves.i16": 2 * PROMPT_MEL_HOP_SAMPLES, "mels.f16": 2 * PROMPT_MELS, "f0.f16": 2}
    for number, clip in enumerate(missing, start=1):
        samples = wave_of(clip, renditions[clip.recording.identity][0])
        mel = mel_spectrogram_22k(torch.from_numpy(samples))[0].half().numpy()
        samples = samples[: len(mel) * PROMPT_MEL_HOP_SAMPLES]
        parts = ((samples.clip(-1.0, 1.0) * _I16).astype("<i2"), mel, pitch(samples).astype(np.float16))
        for (name, width), part in zip(widths.items(), parts, strict=True):
            _write_at(folder / name, width * end, part.tobytes())
        _add_line(folder, [clip.recording.identity, end, len(mel)])
        end += len(mel)
        if number % _LOG_EVERY == 0 or number == len(missing):
            _log.info("hift: %d of %d new waves", number, len(missing))


def read_sounds(work: Path, clips: Sequence[Clip]) -> list[Sound]:
    """Everything that `make_waves` has written of these clips, with the flow's mels where `make_made` has run."""
    folder = work / WAVES_FOLDER
    rows = _rows(folder)
    if not rows:
        return []
    waves = np.memmap(folder / "waves.i16", "<i2", mode="r").reshape(-1, PROMPT_MEL_HOP_SAMPLES)
    mels = np.memmap(folder / "mels.f16", np.float16, mode="r").reshape(-1, PROMPT_MELS)
    f0 = np.memmap(folder / "f0.f16", np.float16, mode="r")
    clip_of = {clip.recording.identity: clip for clip in clips}
    made = dict(_made(work / MADE_FOLDER))
    return [
        Sound(
            identity,
            clip_of[identity].is_judged,
            waves[start : start + frames].reshape(-1),
            mels[start : start + frames],
            f0[start : start + frames],
            made.get(identity),
        )
        for identity, start, frames in rows
        if identity in clip_of
    ]


def make_made(
    work: Path, clips: Sequence[Clip], renditions: Mapping[str, list[Rendition]], vocoder_folder: Path
) -> None:
    """Let the flow of a vocoder folder make mels of some utterances; those of another flow or guidance are made again.

    Each stands behind the longest clip of its voice among the first, so that the flow speaks as it does when it serves.
    """
    sounds = {sound.identity: sound for sound in read_sounds(work, clips)}
    chosen = [clip for clip in clips if clip.recording.identity in sounds]
    chosen.sort(key=lambda clip: (not clip.is_judged, clip.recording.identity))
    folder, flow_files = work / MADE_FOLDER, [(vocoder_folder / name).read_bytes() for name in (FLOW_FILE, CONFIG_FILE)]
    fingerprint = hashlib.sha256(b"".join(flow_files)).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / "index.jsonl"
    if not index.exists() or index.read_text().splitlines()[:1] != [json.dumps(fingerprint)]:
        index.write_text(json.dumps(fingerprint) + "\n")
    rows = _rows(folder)
    done, end = {row[0] for row in rows}, max((row[1] + row[2] for row in rows), default=0)
    flow, speaker = load_flow(vocoder_folder), load_speaker(vocoder_folder)
    prompts: dict[str, VoiceFeatures] = {}
    for number, clip in enumerate(chosen[:MADE_MOST]):
        identity, voice = clip.recording.identity, clip.recording.voices[0][0]
        if identity in done:
            continue
        if voice not in prompts:
            same = [other for other in chosen if other.recording.voices[0][0] == voice][:MADE_MOST]
            longest = max(same, key=lambda other: len(renditions[other.recording.identity][0].values))
            values = renditions[longest.recording.identity][0].values[: GROUP_TOKENS * PROMPT_GROUPS]
            mel = sounds[longest.recording.identity].mel[: flow.frame_count(len(values))].astype(np.float32)
            prompts[voice] = VoiceFeatures(values, mel, speaker.embed(longest.samples))
        noise_frames = len(torch.as_tensor(prompts[voice].mel))
        tokens = torch.from_numpy(renditions[identity][0].values)
        generator = torch.Generator().manual_seed(number)
        noise = torch.randn(1, PROMPT_MELS, noise_frames + flow.frame_count(len(tokens)), generator=generator)
        made = flow.mel(tokens, prompts[voice], noise=noise)[0].T.half().numpy()
        _write_at(folder / "mels.f16", 2 * PROMPT_MELS * end, made.tobytes())
        _add_line(folder, [identity, end, len(made)])
        end += len(made)


class WaveCorpus:
    """Batches of `Sound`.

    Args:
        sounds: everything, held-out utterances among it.

    Raises:
        MissingFileError: nothing is long enough for a crop.
    """

    def __init__(self, sounds: Sequence[Sound]) -> None:
        long = [sound for sound in sounds if len(sound.mel) > FRAMES]
        self._training = [sound for sound in long if not sound.is_judged]
        self._made = [sound for sound in self._training if sound.made is not None and len(sound.made) > FRAMES]
        if not self._training:
            raise MissingFileError("no spoken replies to learn from; run the stages `speech` and `tokens`")
        held = sorted((s for s in long if s.is_judged), key=lambda s: (s.made is None, s.identity))
        self.judged = [_beginning(sound) for sound in (held or self._training)[:_JUDGED]]

    def draw(self, rng: np.random.Generator) -> WaveBatch:
        """A training batch."""
        rows = [self._row(rng) for _ in range(BATCH)]
        mel, wave, f0 = (torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))
        return WaveBatch(mel.transpose(1, 2).contiguous(), wave, f0)

    def _row(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        is_made = bool(self._made) and rng.random() < _MADE_SHARE
        members = self._made if is_made else self._training
        sound = one_of(members, rng)
        source = sound.made if is_made and sound.made is not None else sound.mel
        start = int(rng.integers(0, min(len(source), len(sound.mel)) - FRAMES + 1))
        mel = source[start : start + FRAMES].astype(np.float32)
        if not is_made and rng.random() < _DISTURBED_SHARE:
            mel = mel + rng.standard_normal(mel.shape).astype(np.float32) * np.float32(rng.uniform(0, _DISTURBANCE))
        hop = PROMPT_MEL_HOP_SAMPLES
        wave = sound.wave_i16[start * hop : (start + FRAMES) * hop].astype(np.float32) / np.float32(_I16)
        return mel, wave, sound.f0[start : start + FRAMES].astype(np.float32)


def wave_of_sound(sound: Sound) -> Tensor:
    """[1, 256 M] float32."""
    return torch.from_numpy(sound.wave_i16.astype(np.float32) / np.float32(_I16))[None]


def _beginning(sound: Sound) -> Sound:
    frames = min(_JUDGED_FRAMES, len(sound.mel), len(sound.mel) if sound.made is None else len(sound.made))
    return replace(
        sound,
        wave_i16=sound.wave_i16[: frames * PROMPT_MEL_HOP_SAMPLES],
        mel=sound.mel[:frames],
        f0=sound.f0[:frames],
        made=None if sound.made is None else sound.made[:frames],
    )


def _made(folder: Path) -> Iterator[tuple[str, NDArray[np.float16]]]:
    path = folder / "mels.f16"
    if path.exists():
        mels = np.memmap(path, np.float16, mode="r").reshape(-1, PROMPT_MELS)
        for identity, start, frames in _rows(folder):
            yield identity, mels[start : start + frames]


def _write_at(path: Path, place: int, data: bytes) -> None:
    """Write behind what the index knows; more than that was left by a stop."""
    with path.open("ab") as file:
        file.truncate(place)
        file.seek(place)
        file.write(data)


def _add_line(folder: Path, line: list[Any]) -> None:
    with (folder / "index.jsonl").open("a") as index:
        index.write(json.dumps(line) + "\n")


def _rows(folder: Path) -> list[tuple[str, int, int]]:
    """Lines of the index but for the name of the flow; a line cut off by a stop is removed from the file."""
    path = folder / "index.jsonl"
    text = path.read_text() if path.exists() else ""
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        path.write_text(text)
    lines = [json.loads(line) for line in text.splitlines()]
    return [(line[0], line[1], line[2]) for line in lines if isinstance(line, list)]
