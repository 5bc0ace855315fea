"""Semantic codes of audio that is still arriving, in two ways with one interface.

`WholeStream`: the network sees everything of a piece of 30 s, so a code is final only when its piece or the utterance
has ended. Exact: any pushes give the codes of the offline run.

`SegmentedStream`: the network runs once for each segment, on context, segment and look-ahead; the segment's codes are
final at once. Near the offline codes, not equal to them: what is beyond the window changes them, and the log-mel floor
follows the loudest frame of the window.

                 |<------- context ------->|<- segment ->|<- look-ahead ->|
    run n        [~~~~~~~~~~~~~~~~~~~~~~~~~~#############~~~~~~~~~~~~~~~~~~]
    run n + 1                  [~~~~~~~~~~~~~~~~~~~~~~~~~~#############~~~~~~~~~~~~~~~~~~]

Decides when the network runs. States are values; the streams keep none.
Source: get_vq06_code of the release (whole); "fixed-duration segmentation" of the technical report (segmented).
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from services.shared.audio.pcm import Samples
from services.shared.codec.codebooks import GROUP_MS
from services.shared.errors import InvalidOptionError
from services.tokenizer.semantic.encoder import CODE_SAMPLES, PIECE_SAMPLES, SemanticEncoder

_SAMPLES_PER_MS: Final = 16


@dataclass(frozen=True, slots=True)
class SemanticState:
    """Where a stream stands.

    Attributes:
        samples: [n] samples of context, then those that have no final code yet.
        context_samples: how many of them are context.
    """

    samples: Samples
    context_samples: int


class SemanticStream(Protocol):
    """Samples in, final codes out."""

    def initial_state(self) -> SemanticState:
        """The state before the first sample."""
        ...

    def push(
        self, samples_16k: Samples, state: SemanticState, *, final: bool
    ) -> tuple[NDArray[np.int64], SemanticState]:
        """Take [N] more samples; return the codes that became final, all that are left if `final`, and the state."""
        ...


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """Durations of the segmented mode, each a whole number of 120 ms groups; together at most 30 s.

    Attributes:
        segment_ms: audio whose codes come out of one run.
        context_ms: audio before it that the network sees; at least one group, so that no last window is too short.
        lookahead_ms: audio after it that the network waits for and sees.

    A sample's code is out at most `latency_ms` after the sample came in, plus the run itself. The defaults give a fresh
    segment with every chunk of the linguistic encoder; what other durations agree with `whole` is measured by
    benchmarks/segmented_agreement.py (look-ahead counts most, then context).

    Raises:
        InvalidOptionError: a duration is no multiple of 120 ms or too short, or the sum is above 30 s.
    """

    segment_ms: int = 240
    context_ms: int = 4800
    lookahead_ms: int = 480

    def __post_init__(self) -> None:
        durations = (self.segment_ms, self.context_ms, self.lookahead_ms)
        if any(value % GROUP_MS for value in durations) or min(self.segment_ms, self.context_ms) < GROUP_MS:
            raise InvalidOptionError(f"segment and context must be multiples of {GROUP_MS} ms and no less: {durations}")
        if self.lookahead_ms < 0:
            raise InvalidOptionError(f"the look-ahead must not be negative: {self.lookahead_ms} ms")
        if sum(durations) * _SAMPLES_PER_MS > PIECE_SAMPLES:
            raise InvalidOptionError(f"segment, context and look-ahead exceed 30 s together: {durations} ms")

    @property
    def latency_ms(self) -> int:
        """Longest time from a sample to its code, without the time the network takes."""
        return self.segment_ms + self.lookahead_ms


class WholeStream:
    """Codes are final with their piece of 30 s, or at the end."""

    def __init__(self, encoder: SemanticEncoder) -> None:
        self._encoder = encoder

    def initial_state(self) -> SemanticState:
        """The state before the first sample."""
        return SemanticState(np.zeros(0, np.float32), 0)

    def push(
        self, samples_16k: Samples, state: SemanticState, *, final: bool
    ) -> tuple[NDArray[np.int64], SemanticState]:
        """See `SemanticStream.push`."""
        held = np.concatenate([state.samples, samples_16k])
        due = len(held) if final else len(held) // PIECE_SAMPLES * PIECE_SAMPLES
        codes = self._encoder.encode(held[:due])
        return codes, SemanticState(held[due:].copy(), 0)


class SegmentedStream:
    """Codes are final with their segment."""

    def __init__(self, encoder: SemanticEncoder, plan: SegmentPlan) -> None:
        self._encoder = encoder
        self._segment = plan.segment_ms * _SAMPLES_PER_MS
        self._context = plan.context_ms * _SAMPLES_PER_MS
        self._lookahead = plan.lookahead_ms * _SAMPLES_PER_MS

    def initial_state(self) -> SemanticState:
        """The state before the first sample."""
        return SemanticState(np.zeros(0, np.float32), 0)

    def push(
        self, samples_16k: Samples, state: SemanticState, *, final: bool
    ) -> tuple[NDArray[np.int64], SemanticState]:
        """See `SemanticStream.push`."""
        held = np.concatenate([state.samples, samples_16k])
        begin, context = 0, state.context_samples  # the window under way starts at `begin`
        codes = [np.zeros(0, np.int64)]
        while len(held) - begin >= context + self._segment + self._lookahead:
            segment_end = begin + context + self._segment
            window = self._encoder.encode_piece(held[begin : segment_end + self._lookahead])
            codes.append(window[context // CODE_SAMPLES :][: self._segment // CODE_SAMPLES])
            context = min(self._context, context + self._segment)
            begin = segment_end - context
        if final:
            if len(held) - begin - context > 0:
                codes.append(self._encoder.encode_piece(held[begin:])[context // CODE_SAMPLES :])
            return np.concatenate(codes), self.initial_state()
        return np.concatenate(codes), SemanticState(held[begin:].copy(), context)
