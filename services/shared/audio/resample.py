"""Resampling between any two rates, one-shot or streamed, equal to torchaudio's `Resample` with its defaults.

A windowed sinc (Hann, 6 zero crossings a side, cut-off at 0.99 of the lower Nyquist) evaluated as a polyphase filter:
each output sample is one dot product of `taps` input samples with the filter of its phase. With both rates divided by
their greatest common divisor, output n stands at input time n * from / to:

    input      |--|--|--|--|--|--|--|--|--|--|--|
    output 0   [=====taps=====]                       phase 0
    output 1         [=====taps=====]                 phase 1, start moved by floor(from / to)
    group      [========span========]                 a few outputs after one another: one product with a matrix

Outputs are computed in groups, each always by the same product of a row and a matrix: so an output's last digit depends
on no cut of the input, and a group costs little more than its first output alone.

Decides nothing about audio; holds no state but the one it hands out.
Source: torchaudio.functional.resample (sinc_interp_hann, lowpass_filter_width 6, rolloff 0.99).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.shared.audio.pcm import Samples
from services.shared.errors import InvalidOptionError

_ZERO_CROSSINGS: Final = 6
_ROLLOFF: Final = 0.99
_GROUP_OUTPUTS: Final = 32
"""Of one product, about: more of them multiply more zeros, fewer call more often."""
_SHORT_ROUND: Final = 8
"""Groups after which the phases come again: whole rounds of so few cost less than another call for a part of one."""
_BLOCK_SAMPLES: Final = 8192
"""Outputs computed at once, or all phases where they are more: bounds the memory of long audio."""


@dataclass(frozen=True, slots=True)
class _Filter:
    """The polyphase filter of a reduced pair of rates: `step` inputs for `phases` outputs.

    A round is the fewest whole groups after which the phases come again.
    """

    step: int
    phases: int
    taps: int
    width: int
    """Of the taps, those before an output's own time."""
    kernel: NDArray[np.float32]
    """[groups of a round, span, outputs of a group]: what each input of a group's span gives to each output."""


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
        ringing = design.taps
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
        if final:
            end = -(-buffer_end * design.phases // design.step)
            buffer = np.pad(buffer, (0, design.taps))
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
    return _grouped(step, phases, width, kernel.astype(np.float32))


def _grouped(step: int, phases: int, width: int, filters: NDArray[np.float32]) -> _Filter:
    """Lay the filters of all phases, [phases, taps], out in groups."""
    taps = filters.shape[1]
    size = max(size for size in range(1, _GROUP_OUTPUTS + 1) if size % phases == 0 or phases % size == 0)
    groups = max(phases // size, 1)
    first = np.arange(groups * size).reshape(groups, size) * step // phases - width  # inputs of each output
    span = int((first[:, -1] - first[:, 0]).max()) + taps
    kernel = np.zeros((groups, span, size), np.float32)
    for group, place in np.ndindex(groups, size):
        begin = first[group, place] - first[group, 0]
        kernel[group, begin : begin + taps, place] = filters[(group * size + place) % phases]
    return _Filter(step, phases, taps, width, kernel)


def _start_of(design: _Filter, output: int) -> int:
    """Absolute index of the first input that an output needs."""
    return output * design.step // design.phases - design.width


def _complete_outputs(design: _Filter, input_end: int) -> int:
    """How many outputs have all their taps before `input_end`."""
    reach = input_end - design.taps + design.width  # floor(n * step / phases) must not exceed this
    return max(0, ((reach + 1) * design.phases - 1) // design.step + 1)


def _filtered(design: _Filter, buffer: Samples, buffer_start: int, outputs: range) -> Samples:
    """Evaluate a range of outputs on input samples whose first has the absolute index `buffer_start`."""
    if len(outputs) == 0:
        return np.empty(0, np.float32)
    groups, span, size = design.kernel.shape
    first, end = outputs.start // size, -(-outputs.stop // size)
    if groups <= _SHORT_ROUND:
        first, end = first - first % groups, end + -end % groups
    starts = np.arange(first, end) * (size * design.step) // design.phases - (design.width + buffer_start)
    # The first and the last groups may have outputs that are not asked for, on inputs that are not here.
    before = max(-int(starts[0]), 0)
    after = max(int(starts[-1]) + span - len(buffer), 0)
    padded = np.concatenate([np.zeros(before, np.float32), buffer, np.zeros(after, np.float32)])
    # Every stretch of `span` samples as a row, without copying: numpy's own sliding_window_view costs as much as all
    # the rest for a chunk of 20 ms.
    windows: Samples = np.ndarray((len(padded) - span + 1, span), np.float32, padded, 0, (4, 4))
    result = np.empty((end - first, size), np.float32)
    for begin, stop in _stretches(first, end, design.kernel.shape[0], size):
        kernel = design.kernel[begin % groups :][: stop - begin]
        rows = windows[starts[begin - first : stop - first] + before].reshape(-1, len(kernel), 1, span)
        result[begin - first : stop - first] = np.matmul(rows, kernel).reshape(-1, size)
    return result.reshape(-1)[outputs.start - first * size : outputs.stop - first * size]


def _stretches(first: int, end: int, groups: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut a row of groups into the end of a round, whole rounds, and the beginning of one."""
    most = max(_BLOCK_SAMPLES // (groups * size), 1) * groups
    while first < end:
        to_round = groups - first % groups
        whole = (end - first) // groups * groups
        stop = min(first + to_round, end) if to_round < groups or not whole else first + min(whole, most)
        yield first, stop
        first = stop
