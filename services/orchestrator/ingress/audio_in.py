"""The user's audio: chunks in the client's format in, one unbroken row of samples at 16 kHz out.

    chunks      |--0--|--1--|     |--3--|            the client's samples; 2 was lost, 1 came twice
                      |--1--|
    heard       |--0--|--1--|00000|--3--|            16 kHz, each sample once, silence where one was lost

It decides what a chunk may be and where it belongs, and how fast audio may come. It refuses to know what is said in it.
A chunk that is refused has no effect, and the stream can go on.

Rules that audio.proto leaves open, decided here: a chunk shorter than 10 ms is taken as the last one of an utterance,
and so not two of them in a row; the limits of a chunk's length are whole samples, rounded in the client's favour.
A gap is time of the stream as sent audio is, so it counts when the pace is measured.

Pace. The client may be 2 s ahead of real time. A network that stood still delivers at once what was spoken meanwhile:
that time is kept as credit, up to 30 s, so that only audio that nobody can have spoken yet is too fast.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from services.shared.audio.codecs import AudioFormat, make_decoder
from services.shared.audio.pcm import Samples
from services.shared.audio.positions import InputPositions
from services.shared.audio.resample import Resampler
from services.shared.errors import InputTooFastError, InvalidInputError, UnsupportedAudioFormatError

HEARING_RATE_HZ: Final = 16_000
MIN_CHUNK_MS: Final = 10
MAX_CHUNK_MS: Final = 200
MAX_AHEAD_S: Final = 2.0
MAX_CREDIT_S: Final = 30.0
MAX_GAP_S: Final = 30.0


class HeardSamples(NamedTuple):
    """What is new at 16 kHz.

    Attributes:
        samples: [N] float32, perhaps none.
        first_sample: position of the first one; it is where the samples before ended.
    """

    samples: Samples
    first_sample: int


class AudioInput:
    """The audio of one stream of a client.

    Args:
        format_: the client's.
        clock: monotonic seconds.
        first_sample: position at 16 kHz of the first sample that is needed; a resume gives the session's next one.
        replay_s: how much audio may come at once, besides the 2 s, and how long a gap the first chunk may leave: for a
            resume the audio that a client keeps, and the time it was away.
        max_ahead_s: how far ahead of real time audio may come; infinity for a call that takes it in any tempo.
    """

    def __init__(
        self,
        format_: AudioFormat,
        *,
        clock: Callable[[], float],
        first_sample: int = 0,
        replay_s: float = 0.0,
        max_ahead_s: float = MAX_AHEAD_S,
    ) -> None:
        rate_hz = format_.sample_rate_hz
        self.positions: Final = InputPositions(rate_hz, HEARING_RATE_HZ)
        self._rate_hz = rate_hz
        self._decoder = make_decoder(format_)
        self._decoded_per_sample = self._decoder.sample_rate_hz // rate_hz
        self._least_samples = rate_hz * MIN_CHUNK_MS // 1000
        self._most_samples = -(-rate_hz * MAX_CHUNK_MS // 1000)
        self._next = self.positions.theirs(first_sample)
        self._heard_end = first_sample
        self._resampler = None
        if self._decoder.sample_rate_hz != HEARING_RATE_HZ:
            self._resampler = Resampler(self._decoder.sample_rate_hz, HEARING_RATE_HZ)
            self._state = self._resampler.state_at(self._next * self._decoded_per_sample, first_sample)
        self._was_short = False
        self._largest_gap_s = max(MAX_GAP_S, replay_s)
        self._clock = clock
        self._credit_s = max(MAX_CREDIT_S, replay_s)
        self._max_ahead_s = max_ahead_s
        self._paced_samples = 0
        self._paced_from_s = clock() - replay_s  # real time would have brought the samples since this moment

    @property
    def next_sample(self) -> int:
        """Position of the next sample that is needed, in the client's samples."""
        return self._next

    @property
    def heard_end(self) -> int:
        """Position at 16 kHz after the last sample that was handed out."""
        return self._heard_end

    def push(self, data: bytes, first_sample: int | None = None) -> HeardSamples:
        """Take one chunk.

        Args:
            data: of an AudioChunk.
            first_sample: position of its first sample, in the client's samples; None is right after the chunk before.

        Returns:
            What can be said at 16 kHz by now; resampling holds back less than 2 ms.

        Raises:
            UnreadableAudioError, NonFiniteAudioError: as they say.
            InvalidInputError: a position below 0, or so far ahead that it can be no loss.
            UnsupportedAudioFormatError: a chunk of a length that is not taken. Ends a stream.
            InputTooFastError: audio that cannot have been spoken yet. Ends a stream.
        """
        count = self._decoder.count(data)
        self._check_length(count)
        gap = known = 0
        if first_sample is not None and first_sample != self._next:
            gap = max(self._place(first_sample) - self._next, 0)
            known = max(self._next - first_sample, 0)
        if known >= count:
            return self._hand_out(np.zeros(0, np.float32))
        new = gap + count - known
        paced_from_s = self._pace(new)
        samples = self._decoder.decode(data)
        if known:
            samples = samples[known * self._decoded_per_sample :]
        self._paced_from_s = paced_from_s
        self._paced_samples += new
        self._was_short = count < self._least_samples
        self._largest_gap_s = MAX_GAP_S
        self._next += new
        return self._hand_out(self._resampled(gap, samples))

    def flush(self) -> HeardSamples:
        """End the audio: what resampling still held back."""
        if self._resampler is None:
            return self._hand_out(np.zeros(0, np.float32))
        tail, _ = self._resampler.push(np.zeros(0, np.float32), self._state, final=True)
        return self._hand_out(tail)

    def _check_length(self, count: int) -> None:
        too_short = count < self._least_samples and self._was_short
        if too_short or count > self._most_samples:
            raise UnsupportedAudioFormatError(
                f"a chunk of audio is {MIN_CHUNK_MS} to {MAX_CHUNK_MS} ms long (the last one of an utterance may be "
                f"shorter), not {count / self._rate_hz * 1000:g} ms",
                field="audio.data",
                value=f"{count} samples",
                limit=f"{self._least_samples} to {self._most_samples} samples",
            )

    def _place(self, first: int) -> int:
        if first < 0 or first - self._next > self._largest_gap_s * self._rate_hz:
            raise InvalidInputError(
                f"audio cannot go on at sample {first} after sample {self._next}: a gap is at most "
                f"{self._largest_gap_s:g} s long",
                field="audio.first_sample",
                value=str(first),
                limit=str(self._next + int(self._largest_gap_s * self._rate_hz)),
            )
        return first

    def _pace(self, new: int) -> float:
        """Refuse `new` more samples if they come too early; give the moment from which the pace now counts."""
        now_s = self._clock()
        behind_s = now_s - self._paced_from_s - self._paced_samples / self._rate_hz
        paced_from_s = self._paced_from_s + max(behind_s - self._credit_s, 0.0)
        ahead_s = (self._paced_samples + new) / self._rate_hz - (now_s - paced_from_s)
        if ahead_s > self._max_ahead_s:
            raise InputTooFastError(
                f"the audio is {ahead_s:.1f} s ahead of real time; at most {self._max_ahead_s:g} s may be sent ahead",
                field="audio",
                limit=f"{self._max_ahead_s:g} s",
            )
        return paced_from_s

    def _resampled(self, gap: int, samples: Samples) -> Samples:
        """At 16 kHz, with the silence of a gap in front."""
        silence = gap * self._decoded_per_sample
        if self._resampler is None:
            return np.concatenate([np.zeros(silence, np.float32), samples]) if silence else samples
        if not silence:
            out, self._state = self._resampler.push(samples, self._state, final=False)
            return out
        head, state = self._resampler.skip_silence(silence, self._state)
        tail, self._state = self._resampler.push(samples, state, final=False)
        return np.concatenate([head, tail])

    def _hand_out(self, samples: Samples) -> HeardSamples:
        first, self._heard_end = self._heard_end, self._heard_end + len(samples)
        return HeardSamples(samples, first)
