"""What streaming costs and changes: the vocoder in chunks against the same tokens in one run, on the nano checkpoint.

    python -m benchmarks.streaming_vocoder [--clips N]

Tokens are those of the nano questions (the tokenizer's, trimmed), the voice is the checkpoint's own speaker, tokens
come in groups of five, noise is the same for both. Per clip:

 * mel: mean |difference| of the flow's own log-mel, streamed against the same tokens in one push;
 * wave: mean |difference| of the log-mel of the waves, streamed against offline. Both stand beside the distance of two
   seeds, which is how far the flow's own randomness goes. (Offline spreads the frames evenly over the tokens, a stream
   sets them at their nominal places: up to half a frame apart, and HiFT's noise hears it.)
 * seams: energy of the wave's differences (its high band) and the largest sample jump within 3 ms of a chunk border or
   of a hop of the mel, each relative to the surrounding 150 ms (see `loudness_at`), beside the same places of the wave
   that one push of all tokens gives: speech may well begin at a seam, and then both are loud;
 * the streamed compute over the offline one, and the first chunk's compute over the offline one (CPU time, one thread).
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.report import machine, table
from services.shared import paths
from services.shared.audio.files import read_audio
from services.shared.nn.features import mel_spectrogram_22k
from services.tokenizer import load_speech_tokenizer
from services.vocoder import Vocoder, VoiceFeatures, load_vocoder
from services.vocoder.streaming import Streamer

ROOT = Path(__file__).resolve().parents[1]
NANO = ROOT / "model_repository" / "checkpoints" / "nano"
QUESTIONS = ROOT / "benchmarks" / "data" / "nano_questions"
GROUP_TOKENS = 5
_NEAR_S, _AROUND_S = 0.003, 0.150

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Streamed:
    """One streamed utterance: the wave, sample places of its seams, and CPU seconds."""

    wave: Samples
    seams: tuple[int, ...]
    first_chunk_samples: int
    first_chunk_s: float
    total_s: float


def stream(vocoder: Vocoder, tokens: NDArray[np.int64], voice: VoiceFeatures, *, seed: int, group: int) -> Streamed:
    """Push tokens by groups; seams are chunk borders and the places where a new window of mel takes over."""
    state = vocoder.initial_state(seed)
    chunks: list[Samples] = []
    seams: set[int] = set()
    spent_s = first_s = 0.0
    hop = vocoder.hift.config.hop_samples
    for place in range(0, len(tokens) + group, group):
        started_s = time.process_time()
        chunk, state = vocoder.chunk(tokens[place : place + group], voice, state, final=place >= len(tokens))
        spent_s += time.process_time() - started_s
        if not len(chunk):
            continue
        first_s = first_s or spent_s
        chunks.append(chunk)
        seams |= {sum(map(len, chunks)), state.made_frames * hop}
    wave = np.concatenate(chunks)
    inside = tuple(sorted(seam for seam in seams if 0 < seam < len(wave)))
    return Streamed(wave, inside, len(chunks[0]), first_s, spent_s)


def loudness_at(wave: Samples, place: int, sample_rate_hz: int) -> tuple[float, float]:
    """How loud a seam is: (high-band energy, largest jump) near it, relative to its surroundings.

    Surroundings are the windows of the same length within 150 ms; the reference is their 90th percentile plus a floor
    of 1e-4 of full scale, so that silence beside silence counts as 0 and speech beside speech as about 1 at most.
    """
    near, around = round(_NEAR_S * sample_rate_hz), round(_AROUND_S * sample_rate_hz)
    steps = np.abs(np.diff(wave.astype(np.float64), prepend=wave[:1]))
    middle = steps[max(place - near, 0) : place + near]
    windows = [
        steps[start : start + 2 * near]
        for start in range(max(place - around, 0), min(place + around, len(steps) - 2 * near), near)
        if abs(start + near - place) > 2 * near
    ]
    energy = np.percentile([np.square(window).mean() for window in windows], 90) + 1e-8
    jump = np.percentile([window.max() for window in windows], 90) + 1e-4
    return float(np.square(middle).mean() / energy), float(middle.max() / jump)


def stream_mel(vocoder: Vocoder, tokens: NDArray[np.int64], voice: VoiceFeatures, *, seed: int, group: int) -> Samples:
    """The mel that a stream hands to HiFT; [80, M]."""
    streamer = Streamer(vocoder.flow, vocoder.hift, vocoder.stream_settings)
    state = vocoder.initial_state(seed)
    pieces: list[Samples] = []
    for place in range(0, len(tokens), group):
        piece, state = streamer.mel(tokens[place : place + group], voice, state, final=place + group >= len(tokens))
        pieces.append(piece)
    return np.concatenate(pieces, axis=1)


def mel_distances(
    vocoder: Vocoder, tokens: NDArray[np.int64], voice: VoiceFeatures, *, group: int
) -> tuple[float, float]:
    """Mean |difference| of log-mels: streamed against one push, and one push against one push of another seed."""
    whole = stream_mel(vocoder, tokens, voice, seed=1, group=len(tokens))
    streamed = stream_mel(vocoder, tokens, voice, seed=1, group=group)
    other = stream_mel(vocoder, tokens, voice, seed=2, group=len(tokens))
    return float(np.abs(streamed - whole).mean()), float(np.abs(other - whole).mean())


def log_mel_distance(first: Samples, second: Samples) -> float:
    """Mean absolute difference of the log-mels of two waves of one length."""
    mels = [mel_spectrogram_22k(torch.from_numpy(wave)) for wave in (first, second)]
    return float((mels[0] - mels[1]).abs().mean())


def nano_clips(count: int) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Tokens of the first `count` nano questions."""
    tokenizer = load_speech_tokenizer(NANO / paths.TOKENIZER_FOLDER)
    lines = (QUESTIONS / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    for line in lines[:count]:
        name = json.loads(line)["file"]
        audio = read_audio(QUESTIONS / name)
        yield name, tokenizer.tokenize(audio.samples, audio.sample_rate_hz, trim=True).interleaved


def nano_voice(vocoder: Vocoder) -> VoiceFeatures:
    """The checkpoint's own speaker."""
    folder = NANO / paths.TTS_FOLDER / paths.SPEAKERS_FOLDER
    tokenizer = load_speech_tokenizer(NANO / paths.TOKENIZER_FOLDER)
    audio = read_audio(folder / "Nano_prompt.wav")
    tokens = tokenizer.tokenize(audio.samples, audio.sample_rate_hz, trim=True).interleaved
    return vocoder.voice_features(audio.samples, audio.sample_rate_hz, tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=25)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    vocoder = load_vocoder(NANO / paths.TTS_FOLDER / paths.VOCODER_FOLDER)
    voice = nano_voice(vocoder)
    rate_hz = vocoder.sample_rate_hz
    rows: list[list[str]] = []
    at_seams: list[tuple[float, float]] = []
    unseamed: list[tuple[float, float]] = []
    for name, tokens in nano_clips(arguments.clips):
        started_s = time.process_time()
        offline = vocoder.wave(tokens, voice, seed=1)
        offline_s = time.process_time() - started_s
        other_seed = vocoder.wave(tokens, voice, seed=2)
        streamed = stream(vocoder, tokens, voice, seed=1, group=GROUP_TOKENS)
        here = [loudness_at(streamed.wave, seam, rate_hz) for seam in streamed.seams]
        at_seams += here
        one_push, _ = vocoder.chunk(tokens, voice, vocoder.initial_state(1), final=True)
        unseamed += [loudness_at(one_push, seam, rate_hz) for seam in streamed.seams]
        rows.append(
            [
                name,
                f"{len(offline) / rate_hz:.2f} s",
                "{:.2f} / {:.2f}".format(*mel_distances(vocoder, tokens, voice, group=GROUP_TOKENS)),
                f"{log_mel_distance(streamed.wave, offline):.2f} / {log_mel_distance(other_seed, offline):.2f}",
                f"{len(here)}",
                f"{max(value for value, _ in here):.2f}" if here else "",
                f"{max(value for _, value in here):.2f}" if here else "",
                f"{streamed.first_chunk_samples / rate_hz:.2f} s",
                f"{streamed.first_chunk_s / offline_s:.2f}",
                f"{streamed.total_s / offline_s:.2f}",
            ]
        )
    header = ["clip", "audio", "mel / other seed", "wave / other seed", "seams", "loudest seam", "largest jump"]
    header += ["first chunk", "its compute / offline", "streamed / offline"]
    print(machine())
    print(table(header, rows))
    print()
    print(
        table(
            ["places", "count", "mean energy", "95 %", "largest", "mean jump", "95 %", "largest"],
            [_line("seams of the stream", at_seams), _line("the same places, one push", unseamed)],
        )
    )


def _line(name: str, values: Sequence[tuple[float, float]]) -> list[str]:
    energy, jump = np.array(values).T
    figures = [f(v) for v in (energy, jump) for f in (np.mean, lambda v: np.percentile(v, 95), np.max)]
    return [name, str(len(values)), *(f"{figure:.2f}" for figure in figures)]


if __name__ == "__main__":
    main()
