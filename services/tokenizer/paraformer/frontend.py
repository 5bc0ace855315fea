"""Samples to encoder input, chunk by chunk: filter banks, stacking of seven frames every six, normalisation.

The released front end keeps three caches (samples, frames, spliced frames). They are all functions of the samples, so
this one keeps samples only. With the first frame repeated three times on the left, the four rows of chunk k need these
samples and no others, whatever the sizes of the pushes:

    samples    3840k - 480           3840k                                3840k + 3760   3840(k + 1)
                   |------------------|------------------------------------------|-----------|
    frames         24k - 3 .......... 24k ............................... 24k + 21
    rows                                4k      4k + 1      4k + 2      4k + 3

Decides when a row exists. Knows nothing of the encoder behind it.
Source: WavFrontendOnline of FunASR, as the release drives it (chunk size [0, 4, 5]).
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from services.shared.nn.features import FBANK_HOP_SAMPLES, kaldi_fbank
from services.tokenizer.paraformer.config import FEATURE_DIM

CHUNK_SAMPLES: Final = 3840
"""240 ms: four rows of 60 ms."""
CHUNK_ROWS: Final = 4

_STACK_FRAMES: Final = 7
_STEP_FRAMES: Final = 6
_LEFT_FRAMES: Final = (_STACK_FRAMES - 1) // 2
_LEFT_SAMPLES: Final = _LEFT_FRAMES * FBANK_HOP_SAMPLES
_FULL_SCALE: Final = 32768.0


@dataclass(frozen=True, slots=True)
class FrontEndState:
    """Where the front end stands in an utterance.

    Attributes:
        samples: [n] what later rows still need: everything from 480 samples before the chunk under way.
        chunks: whole chunks done.
    """

    samples: Tensor
    chunks: int


class OnlineFrontEnd:
    """The front end of one model folder.

    Args:
        shift, scale: [560] feature normalisation, (x + shift) * scale.
        dither: standard deviation of noise added to the samples, in units of 16-bit samples; 0 for none. The noise is a
            function of the position in the utterance, so any chunking still gives the same rows.
        released_quirks: do not flush an utterance that ends on a chunk border, as the release. No row differs: there
            24k - 2 frames are complete, and all ceil((24k - 2) / 6) = 4k rows are already out.
    """

    def __init__(self, shift: Tensor, scale: Tensor, *, dither: float, released_quirks: bool) -> None:
        self._shift = shift
        self._scale = scale
        self._dither = dither
        self._released_quirks = released_quirks

    def initial_state(self) -> FrontEndState:
        """The state before the first sample."""
        return FrontEndState(self._shift.new_zeros(0), 0)

    def push(self, samples_16k: Tensor, state: FrontEndState, *, final: bool) -> tuple[Tensor, FrontEndState]:
        """Take more samples and return the rows they complete.

        Args:
            samples_16k: [N] float32 in [-1, 1], possibly none.
            state: from `initial_state` or the push before.
            final: the utterance ends here: the last chunk, shorter than the others, gives its rows as well. Fewer than
                seven stacked frames there (880 samples) give none, as in the release: what is lost is one row at most,
                the first of a pair, which no 2:3 group could take.

        Returns:
            ([4 * chunks, plus 0..4 at the end; 560] float32, the state after it).
        """
        held = torch.cat([state.samples, samples_16k])
        held_start = max(0, CHUNK_SAMPLES * state.chunks - _LEFT_SAMPLES)
        chunks = (held_start + len(held)) // CHUNK_SAMPLES
        rows = [held.new_zeros(0, FEATURE_DIM)]
        if chunks > state.chunks:
            border = CHUNK_SAMPLES * chunks
            rows.append(_stacks(self._frames(held[: border - held_start], held_start)))
            held, held_start = held[border - _LEFT_SAMPLES - held_start :], border - _LEFT_SAMPLES
        at_border = held_start + len(held) == CHUNK_SAMPLES * chunks
        if final and not (self._released_quirks and at_border):
            rows.append(self._last_rows(held, held_start))
        features = (torch.cat(rows) + self._shift) * self._scale
        return features, self.initial_state() if final else FrontEndState(held.clone(), chunks)

    def _last_rows(self, held: Tensor, held_start: int) -> Tensor:
        """Rows of the last chunk: the last frame is repeated where a stack of seven is not full."""
        frames = self._frames(held, held_start)
        if len(frames) < _STACK_FRAMES:
            return held.new_zeros(0, FEATURE_DIM)
        count = -(-(len(frames) - _LEFT_FRAMES) // _STEP_FRAMES)
        needed = (count - 1) * _STEP_FRAMES + _STACK_FRAMES
        missing = max(0, needed - len(frames))
        frames = torch.cat([frames, frames[-1:].expand(missing, -1)])[:needed]
        return _stacks(frames)

    def _frames(self, held: Tensor, held_start: int) -> Tensor:
        """[T, 80] frames of the samples held, those left of the utterance being copies of its first."""
        samples = held * _FULL_SCALE
        if self._dither:
            samples = samples + self._dither * _noise(held_start, len(held)).to(samples)
        frames = kaldi_fbank(samples, window="hamming")
        if held_start == 0 and len(frames):
            frames = torch.cat([frames[:1].expand(_LEFT_FRAMES, -1), frames])
        return frames


def _stacks(frames: Tensor) -> Tensor:
    """[6 * R + 1, 80] -> [R, 560], seven frames every six, frame after frame."""
    return frames.unfold(0, _STACK_FRAMES, _STEP_FRAMES).transpose(1, 2).reshape(-1, FEATURE_DIM)


def _noise(start: int, length: int) -> Tensor:
    """[length] standard normal noise of the absolute samples from `start` on, drawn chunk by chunk."""
    first, last = start // CHUNK_SAMPLES, (start + length) // CHUNK_SAMPLES
    drawn = [torch.randn(CHUNK_SAMPLES, generator=torch.Generator().manual_seed(n)) for n in range(first, last + 1)]
    return torch.cat(drawn)[start - first * CHUNK_SAMPLES :][:length]
