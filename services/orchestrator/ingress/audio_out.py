"""A reply's audio: samples at the vocoder's rate in, chunks in the client's format out.

    samples     |------|---|-----------|--|          as the vocoder makes them
    chunks      |--0--|--1--|--2--|--3--|-4-|        as the client asked for them, the last one shorter

One object serves one reply, or what is left of it after a `reply_resumed`: resampling, chunks and an Opus encoder begin
anew. It decides where a chunk ends and which position and how much spoken text it bears; it knows neither what the text
is nor when a chunk is sent.

With Opus a decoder's output is later than the samples by the pre-skip, so the first packet bears that much less of the
reply, and the last ones are filled up with silence:

    packets     |###--0--|---1----|---2--00|         # pre-skip, not counted in positions; 0 silence after the reply
"""

import itertools
from collections import deque
from typing import Final, NamedTuple

import numpy as np

from services.shared.audio.codecs import OPUS_PACKETS_MS, AudioEncoding, AudioFormat, make_encoder
from services.shared.audio.effects import change_volume
from services.shared.audio.pcm import Samples
from services.shared.audio.positions import OutputPositions
from services.shared.audio.resample import Resampler
from services.shared.errors import UnsupportedAudioFormatError

MIN_CHUNK_MS: Final = 10
MAX_CHUNK_MS: Final = 200
_OWN_PACKET_MS: Final = 20
"""Length of Opus packets where the server chooses: the usual one, which every player expects."""


class ReplyChunk(NamedTuple):
    """A chunk to be sent.

    Attributes:
        data: in the client's format.
        first_sample: position of its first sample in the reply, in the client's samples.
        end_sample: position after its last one, which is where the next chunk begins.
        spoken_characters: of the reply's text that are spoken when it ends.
    """

    data: bytes
    first_sample: int
    end_sample: int
    spoken_characters: int


class _Mark(NamedTuple):
    """So many characters are spoken when the reply has come to this sample of the vocoder's."""

    sample: int
    characters: int


def check_chunk_ms(format_: AudioFormat, chunk_ms: int) -> None:
    """Refuse a length of chunks that cannot be given.

    Raises:
        UnsupportedAudioFormatError: neither 0 nor within 10 to 200 ms; with Opus 10, 20, 40 or 60.
    """
    if format_.encoding is AudioEncoding.OPUS:
        allowed, fits = "0, 10, 20, 40 or 60", chunk_ms in (0, *OPUS_PACKETS_MS)
    else:
        allowed, fits = (
            f"0 or {MIN_CHUNK_MS} to {MAX_CHUNK_MS}",
            chunk_ms == 0 or MIN_CHUNK_MS <= chunk_ms <= MAX_CHUNK_MS,
        )
    if not fits:
        raise UnsupportedAudioFormatError(
            f"chunks of {format_.encoding.value} are {allowed} ms long, not {chunk_ms} ms",
            field="reply_chunk_ms",
            value=str(chunk_ms),
            limit=allowed,
        )


def preskip_samples(format_: AudioFormat) -> int:
    """What a decoder of this format gives before the first sample of a reply, in the client's samples."""
    return make_encoder(format_).preskip_samples


class AudioOutput:
    """The audio of one reply.

    Args:
        format_: the client's.
        our_rate_hz: of the samples that come.
        chunk_ms: length of each chunk; 0 sends what is there, in chunks of 10 to 200 ms.
        volume: amplitude as a ratio; loud passages are rounded off.
        first_sample: position of the first sample that will come, at our rate.
        spoken_characters: that were spoken before it.

    Raises:
        UnsupportedAudioFormatError: chunks of this length are not given.
    """

    def __init__(
        self,
        format_: AudioFormat,
        our_rate_hz: int,
        *,
        chunk_ms: int = 0,
        volume: float = 1.0,
        first_sample: int = 0,
        spoken_characters: int = 0,
    ) -> None:
        check_chunk_ms(format_, chunk_ms)
        rate_hz = format_.sample_rate_hz
        is_opus = format_.encoding is AudioEncoding.OPUS
        if is_opus and not chunk_ms:
            chunk_ms = _OWN_PACKET_MS
        self.positions: Final = OutputPositions(our_rate_hz, rate_hz)
        self._encoder = make_encoder(format_, packet_ms=chunk_ms)
        self._least, self._most = _chunk_bounds(rate_hz, chunk_ms)
        self._fills_up = is_opus
        self._volume = volume
        self._begin = self._sent = self.positions.theirs(first_sample)
        self._encoded = 0
        self._resampler = None if our_rate_hz == rate_hz else Resampler(our_rate_hz, rate_hz)
        if self._resampler is not None:
            self._state = self._resampler.state_at(first_sample, self._begin)
        self._waiting = np.zeros(0, np.float32)
        self._came = first_sample
        self._marks = deque([_Mark(first_sample, spoken_characters)])

    @property
    def end_sample(self) -> int:
        """Position after the last sample that was handed out, in the client's samples."""
        return self._sent

    def push(self, samples: Samples, spoken_characters: int) -> list[ReplyChunk]:
        """Take the next samples of the reply.

        Args:
            samples: [N] float32, perhaps none.
            spoken_characters: of the reply's text that are spoken when they end; never less than before.

        Returns:
            The chunks that are complete.
        """
        characters = max(spoken_characters, self._marks[-1].characters)
        if not len(samples):
            self._marks[-1] = _Mark(self._came, characters)
            return []
        self._came += len(samples)
        self._marks.append(_Mark(self._came, characters))
        louder = samples if self._volume == 1.0 else change_volume(samples, self._volume)
        if self._resampler is not None:
            louder, self._state = self._resampler.push(louder, self._state, final=False)
        self._waiting = np.concatenate([self._waiting, louder])
        return self._encode(self._cut())

    def flush(self) -> list[ReplyChunk]:
        """End the reply: all that is left, the last chunk shorter; Opus fills it up with silence.

        Returns:
            The last chunks; the last one ends where the reply does, with all its text spoken.
        """
        if self._resampler is not None:
            tail, _ = self._resampler.push(np.zeros(0, np.float32), self._state, final=True)
            self._waiting = np.concatenate([self._waiting, tail])
        end = self._begin + self._encoded + len(self._waiting)
        if self._fills_up and end > self._begin:
            silence = self._encoder.preskip_samples
            silence += -(len(self._waiting) + silence) % self._most
            self._waiting = np.concatenate([self._waiting, np.zeros(silence, np.float32)])
        pieces = self._cut()
        if len(self._waiting):
            pieces.append(self._waiting)
            self._waiting = self._waiting[:0]
        return self._encode(pieces, end)

    def _cut(self) -> list[Samples]:
        """Take whole chunks from what waits: all of it in equal parts, or as many as there are of the length asked."""
        count = len(self._waiting)
        if count < self._least:
            return []
        if self._least == self._most:
            edges = list(range(0, count + 1, self._most))
        else:
            parts = -(-count // self._most)
            edges = [count * part // parts for part in range(parts + 1)]
        pieces = [self._waiting[begin:end] for begin, end in itertools.pairwise(edges)]
        self._waiting = self._waiting[edges[-1] :]
        return pieces

    def _encode(self, pieces: list[Samples], end_of_reply: int | None = None) -> list[ReplyChunk]:
        chunks = []
        for piece, data in zip(pieces, self._encoder.encode_all(pieces), strict=True):
            first = self._sent
            self._encoded += len(piece)
            self._sent = self._begin + self._encoded - self._encoder.preskip_samples
            if end_of_reply is not None:
                self._sent = min(self._sent, end_of_reply)
            chunks.append(ReplyChunk(data, first, self._sent, self._spoken_at(self._sent)))
        return chunks

    def _spoken_at(self, their_sample: int) -> int:
        """Characters spoken at a position, in proportion between two marks; positions never fall."""
        sample = self.positions.ours(their_sample)
        while len(self._marks) > 1 and self._marks[1].sample <= sample:
            self._marks.popleft()
        last = self._marks[0]
        if len(self._marks) == 1:
            return last.characters
        following = self._marks[1]
        share = (following.characters - last.characters) * (sample - last.sample)
        return last.characters + share // (following.sample - last.sample)


def _chunk_bounds(rate_hz: int, chunk_ms: int) -> tuple[int, int]:
    """The least and the most samples of a chunk; equal where a length is asked for."""
    least, most = -(-rate_hz * MIN_CHUNK_MS // 1000), rate_hz * MAX_CHUNK_MS // 1000
    if not chunk_ms:
        return least, most
    exact = min(max(round(rate_hz * chunk_ms / 1000), least), most)
    return exact, exact
