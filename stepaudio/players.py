"""Where replies are heard: the interface of a player, a wav file, and what a conversation knows of its player.

    reply_audio ──► Playback ──► player ──► loudspeaker
    playback_ack ◄── position of the last sample written, less what the player still holds

A player plays samples one after another without knowing replies; `Playback` knows which reply they are of.
"""

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import soundfile as sf

from protos.gen.stepaudio.v1 import audio_pb2, conversation_pb2
from services.shared.audio.output import OutputFile
from stepaudio.formats import SAMPLE_BYTES, Samples, decode, to_int16


class Player(Protocol):
    """Plays samples in the order written, each at once if nothing waits before it. No method blocks."""

    @property
    def sample_rate_hz(self) -> int:
        """Rate of all samples."""

    def write(self, samples: Samples) -> None:
        """Play [N] samples after those that wait."""

    def clear(self) -> None:
        """Fall silent now and forget what waits."""

    def pending_samples(self) -> int:
        """Samples that were written, not cleared, and have not left the loudspeaker."""


class WavPlayer:
    """Writes what is heard to a wav file; a context manager. The file is there, whole, once it is
    left without an error.

    Args:
        path: the file, replaced if it exists; must end in .wav.
        sample_rate_hz: of the samples.
        clock: monotonic seconds, for a player that takes as long as a loudspeaker would, so that an interruption cuts
            what would not have been heard. Without it samples count as heard when they are written.

    Raises:
        InvalidOptionError: on entering, where the path cannot be written.
    """

    def __init__(self, path: Path, sample_rate_hz: int, *, clock: Callable[[], float] | None = time.monotonic) -> None:
        self._output = OutputFile(path)
        self._sample_rate_hz = sample_rate_hz
        self._clock = clock
        self._waiting: list[Samples] = []
        self._pending_samples = 0
        self._last_s = 0.0
        self.written_samples = 0

    def __enter__(self) -> Self:
        self._output.__enter__()
        self._file = sf.SoundFile(
            self._output.temporary, "w", samplerate=self._sample_rate_hz, channels=1, subtype="PCM_16", format="WAV"
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._take(self._pending_samples)
        self._file.close()
        if kind is None and self.written_samples:
            self._output.keep()
        self._output.__exit__()

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the file."""
        return self._sample_rate_hz

    def write(self, samples: Samples) -> None:
        """Play [N] samples after those that wait."""
        self._advance()
        self._waiting.append(samples)
        self._pending_samples += len(samples)
        if self._clock is None:
            self._take(self._pending_samples)

    def clear(self) -> None:
        """Leave out what would not have been heard yet."""
        self._advance()
        self._waiting.clear()
        self._pending_samples = 0

    def pending_samples(self) -> int:
        """Samples that a loudspeaker would not have played yet."""
        self._advance()
        return self._pending_samples

    def _advance(self) -> None:
        """Write what was heard since the last time."""
        if self._clock is None:
            return
        now_s = self._clock()
        if not self._pending_samples:  # silence: playing begins with the next sample written
            self._last_s = now_s
            return
        heard = min(max(0, round((now_s - self._last_s) * self._sample_rate_hz)), self._pending_samples)
        self._take(heard)
        self._last_s += heard / self._sample_rate_hz

    def _take(self, count: int) -> None:
        self._pending_samples -= count
        self.written_samples += count
        while count:
            first = self._waiting.pop(0)
            self._file.write(to_int16(first[:count]))
            if len(first) > count:
                self._waiting.insert(0, first[count:])
            count -= min(len(first), count)


class Playback:
    """What is heard of the reply under way.

    Args:
        player: plays it; None where the caller does and tells by `acknowledge`.
        audio: format of the replies.
    """

    def __init__(self, player: Player | None, audio: audio_pb2.AudioFormat) -> None:
        self._player = player
        self._audio = audio
        self._turn = 0
        self._end_sample = 0
        self._told_sample = 0
        self._underruns = 0
        self._is_stopped = False
        self._has_waiting = False
        self._acknowledged: conversation_pb2.PlaybackAck | None = None

    @property
    def turn(self) -> int:
        """The turn whose reply was begun last; 0 before the first."""
        return self._turn

    def begin(self, turn: int, first_sample: int = 0) -> None:
        """A reply begins, or goes on, at a position; what the player holds of the same place stays."""
        if turn == self._turn and first_sample != self._end_sample:
            self.clear()
        if turn != self._turn:
            self._underruns, self._has_waiting = 0, False
        self._turn, self._end_sample, self._told_sample = turn, first_sample, first_sample
        self._is_stopped = False

    def play(self, turn: int, chunk: audio_pb2.AudioChunk) -> None:
        """Play a chunk of a reply; what was played already is left out, and so is all after `stop`."""
        if turn != self._turn or self._is_stopped:
            return
        if self._player is None:  # taken to be played at once, unless the caller says otherwise
            self._end_sample = chunk.first_sample + len(chunk.data) // SAMPLE_BYTES.get(self._audio.encoding, 2**31)
            return
        samples = decode(chunk.data, self._audio)
        end_sample = chunk.first_sample + len(samples)
        if end_sample <= self._end_sample:
            return
        if self._has_waiting and not self._player.pending_samples():
            self._underruns += 1
        self._player.write(samples[max(0, self._end_sample - chunk.first_sample) :])
        self._end_sample = end_sample
        self._has_waiting = self._player.pending_samples() > 0

    def clear(self) -> conversation_pb2.PlaybackAck | None:
        """Empty the player, and tell what was heard until now; None before the first reply."""
        heard = self.heard()
        if self._player is not None:
            self._player.clear()
        if heard is not None:
            self._end_sample = heard.played_samples
        self._has_waiting = False
        return heard

    def stop(self) -> conversation_pb2.PlaybackAck | None:
        """As `clear`, and let nothing more of this reply be heard until it is resumed."""
        self._is_stopped = True
        return self.clear()

    def acknowledge(self, turn: int, played_samples: int, underruns: int) -> conversation_pb2.PlaybackAck:
        """Take the caller's word for what was heard."""
        self._acknowledged = conversation_pb2.PlaybackAck(turn=turn, played_samples=played_samples, underruns=underruns)
        return self._acknowledged

    def remaining_s(self) -> float:
        """How long the player can play what it holds."""
        return self._player.pending_samples() / self._player.sample_rate_hz if self._player is not None else 0.0

    def heard(self) -> conversation_pb2.PlaybackAck | None:
        """What was heard of the last reply; None before the first."""
        return self._ack(self._player.pending_samples() if self._player is not None else 0)

    def will_be_heard(self) -> conversation_pb2.PlaybackAck | None:
        """What will have been heard of the last reply once the player has played what it holds."""
        return self._ack(0)

    def _ack(self, pending_samples: int) -> conversation_pb2.PlaybackAck | None:
        if not self._turn or self._acknowledged is not None:
            return self._acknowledged
        self._told_sample = max(self._told_sample, self._end_sample - pending_samples)
        return conversation_pb2.PlaybackAck(
            turn=self._turn, played_samples=self._told_sample, underruns=self._underruns
        )
