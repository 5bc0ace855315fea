"""Resampling between any two rates, one-shot or streamed, equal to torchaudio's `Resample` with its defaults.

A windowed sinc (Hann, 6 zero crossings a side, cut-off at 0.99 of the lower Nyquist) evaluated as a polyphase filter:
each output sample is one dot product of `taps` input samples with the filter of its phase. With both rates divided by
their greatest common divisor, output n stands at input time n * from / to:

    input      |--|--|--|--|--|--|--|--|--|--|--|
    output 0   [=====taps=====]                       phase 0
    output 1         [=====taps=====]                 phase 1, start moved by floor(from / to)

Decides nothing about audio; holds no state but the one it hands out.
Source: torchaudio.functional.resample (sinc_interp_hann, lowpass_filter_width 6, rolloff 0.99).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.shared.audio.pcm import Samples
from services.shared.errors import InvalidOptionError

_ZERO_CROSSINGS: Final = 6
_ROLLOFF: Final = 0.99
_BLOCK_SAMPLES: Final = 2048
"""Outputs computed at once, or all phases where they are more: bounds the memory of long audio."""


@dataclass(frozen=True, slots=True)
class _Filter:
    """The polyphase filter of a reduced pair of rates: `step` inputs for `phases` outputs.

    Its rows are the phases in turn, over and over up to about a block, so that the filters of successive outputs are
    successive rows and need no gathering.
    """

    step: int
    phases: int
    width: int
    kernel: NDArray[np.float32]
    """[rows, taps]"""
    starts: NDArray[np.int64]
    """[rows] first input sample of each row's output, `width` before its own time."""


@dataclass(frozen=True, slots=True)
class ResamplerState:
    """Where a streamed resampling stands.

    Attributes:
        tail: input samples that later outputs still need, the first at absolute index `tail_start`.
        tail_start: absolute index of `tail[0]`; negative at first, for the zeros before the signal.
        produced: output samples handed out so far.
    """

    tail: Samples
    tail_start: int
    produced: int


class Resampler:
    """Resampling of one pair of rates; the state lives with the caller.

    Args:
        from_hz: rate of the input.
        to_hz: rate of the output.

    Raises:
        InvalidOptionError: a rate is not positive.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        if from_hz <= 0 or to_hz <= 0:
            raise InvalidOptionError(f"sample rates must be positive, not {from_hz} and {to_hz} Hz")
        self._filter = _make_filter(from_hz, to_hz)

    def initial_state(self) -> ResamplerState:
        """The state before the first sample."""
        return self.state_at(0, 0)

    def state_at(self, first_input: int, first_output: int) -> ResamplerState:
        """The state in the middle of a signal, all before being silence.

        Args:
            first_input: absolute index of the next input sample, less than the filter's half length after the time of
                `first_output`.
            first_output: absolute index of the next output sample.
        """
        start = min(_start_of(self._filter, first_output), first_input)
        return ResamplerState(np.zeros(first_input - start, np.float32), start, first_output)

    def skip_silence(self, count: int, state: ResamplerState) -> tuple[Samples, ResamplerState]:
        """Take `count` zeros: the same as `push`, but long silence costs next to nothing."""
        design = self._filter
        ringing = design.kernel.shape[1]
        if count <= 2 * ringing:
            return self.push(np.zeros(count, np.float32), state, final=False)
        head, state = self.push(np.zeros(ringing, np.float32), state, final=False)
        end = state.tail_start + len(state.tail) + count - ringing
        produced = _complete_outputs(design, end)
        silence = np.zeros(produced - state.produced, np.float32)
        return np.concatenate([head, silence]), self.state_at(end, produced)

    def push(self, samples: Samples, state: ResamplerState, *, final: bool) -> tuple[Samples, ResamplerState]:
        """Take more input and hand out every output that no later input can change.

        Args:
            samples: [N] the next input, possibly empty.
            state: from `initial_state` or the push before.
            final: no more input follows: the rest comes out, ceil(total * to / from) samples in all.

        Returns:
            ([M] float32, the state after it; after `final` the initial state).
        """
        design = self._filter
        buffer = np.concatenate([state.tail, samples.astype(np.float32, copy=False)])
        buffer_end = state.tail_start + len(buffer)
        taps = design.kernel.shape[1]
        if final:
            end = -(-buffer_end * design.phases // design.step)
            buffer = np.pad(buffer, (0, taps))
        else:
            end = _complete_outputs(design, buffer_end)
        end = max(end, state.produced)
        output = _filtered(design, buffer, state.tail_start, range(state.produced, end))
        if final:
            return output, self.initial_state()
        keep_from = max(_start_of(design, end) - state.tail_start, 0)
        tail = buffer[keep_from:].copy()
        return output, ResamplerState(tail, state.tail_start + keep_from, end)


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """Resample a whole signal.

    Args:
        samples: [N] float32.
        from_hz: its rate.
        to_hz: the rate wanted.

    Returns:
        [ceil(N * to / from)] float32; the input itself when the rates are equal.

    Raises:
        InvalidOptionError: a rate is not positive.
    """
    if from_hz == to_hz and from_hz > 0:
        return samples
    resampler = Resampler(from_hz, to_hz)
    return resampler.push(samples, resampler.initial_state(), final=True)[0]


@lru_cache(maxsize=32)
def _make_filter(from_hz: int, to_hz: int) -> _Filter:
    divisor = math.gcd(from_hz, to_hz)
    step, phases = from_hz // divisor, to_hz // divisor
    cutoff = min(step, phases) * _ROLLOFF
    width = math.ceil(_ZERO_CROSSINGS * step / cutoff)
    phase = np.arange(phases)
    offset = phase * step // phases  # whole input samples before each phase's own time
    taps = np.arange(-width, width + 2)
    # torchaudio rounds the phase to float32 before it goes on in float64; so does this, to agree to the last digit.
    shift = (phase.astype(np.float32) / np.float32(phases)).astype(np.float64)
    time = (taps[None, :] + offset[:, None]) / step - shift[:, None]  # [phases, taps]
    time = np.clip(time * cutoff, -_ZERO_CROSSINGS, _ZERO_CROSSINGS)
    window = np.cos(time * np.pi / _ZERO_CROSSINGS / 2) ** 2
    kernel = np.sinc(time) * window * (cutoff / step)
    turns = max(_BLOCK_SAMPLES // phases, 1)
    starts = np.arange(turns)[:, None] * step + (offset - width)  # [turns, phases]
    return _Filter(step, phases, width, np.tile(kernel.astype(np.float32), (turns, 1)), starts.reshape(-1))


def _start_of(design: _Filter, output: int) -> int:
    """Absolute index of the first input that an output needs."""
    block, phase = divmod(output, design.phases)
    return block * design.step + int(design.starts[phase])


def _complete_outputs(design: _Filter, input_end: int) -> int:
    """How many outputs have all their taps before `input_end`."""
    reach = input_end - design.kernel.shape[1] + design.width  # floor(n * step / phases) must not exceed this
    return max(0, ((reach + 1) * design.phases - 1) // design.step + 1)


def _filtered(design: _Filter, buffer: Samples, buffer_start: int, outputs: range) -> Samples:
    """Evaluate a range of outputs on input samples whose first has the absolute index `buffer_start`."""
    result = np.empty(len(outputs), np.float32)
    if len(outputs) == 0:
        return result
    rows, taps = design.kernel.shape
    # Every stretch of `taps` samples as a row, without copying: numpy's own sliding_window_view costs as much as all
    # the rest for a chunk of 20 ms.
    windows: Samples = np.ndarray((len(buffer) - taps + 1, taps), np.float32, buffer, 0, (4, 4))
    done = 0
    while done < len(outputs):
        block, phase = divmod(outputs.start + done, design.phases)
        count = min(len(outputs) - done, rows - phase)
        start = design.starts[phase : phase + count] + (block * design.step - buffer_start)
        kernel = design.kernel[phase : phase + count]
        result[done : done + count] = np.einsum("nk,nk->n", windows[start], kernel)
        done += count
    return result
