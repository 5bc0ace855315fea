"""One place in a stream, counted in samples of two rates.

A stream is kept at our rate and told at the client's. Neither way of counting loses a place: going there and back from
the coarser rate gives the same number, and a later sample never gets an earlier one.

    ours, 16 kHz      0     1     2     3     4     5     6
    theirs, 24 kHz    0  1  2  3  4  5  6  7  8  9
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InputPositions:
    """Of audio that comes: N of their samples are ceil(N * our / their) of ours, as resampling makes them."""

    their_rate_hz: int
    our_rate_hz: int

    def theirs(self, our_sample: int) -> int:
        """The last of their samples that is not after one of ours."""
        return our_sample * self.their_rate_hz // self.our_rate_hz

    def ours(self, their_sample: int) -> int:
        """The first of our samples that is not before one of theirs."""
        return -(-their_sample * self.our_rate_hz // self.their_rate_hz)


@dataclass(frozen=True, slots=True)
class OutputPositions:
    """Of audio that goes: N of our samples are ceil(N * their / our) of theirs, as resampling makes them."""

    our_rate_hz: int
    their_rate_hz: int

    def theirs(self, our_sample: int) -> int:
        """The first of their samples that is not before one of ours."""
        return -(-our_sample * self.their_rate_hz // self.our_rate_hz)

    def ours(self, their_sample: int) -> int:
        """The last of our samples that is not after one of theirs.

        At a rate below ours the end of a stream may lie a little past its last sample: compare with its length.
        """
        return their_sample * self.our_rate_hz // self.their_rate_hz
