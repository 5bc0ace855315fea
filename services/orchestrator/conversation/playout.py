"""What of a reply was sent, what of it was heard, and which words those were.

    sent          ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓
    heard         ▓▓▓▓▓▓▓▓▓▓▓▓▓┊◄──── lead ────►┊
    text          It rains to|day in Lisbon.        heard: "It rains"

A client that acknowledges is believed. One that never does is taken to play what it is sent at once: from the first
audio on at real-time rate, standing still while it has nothing (an underrun). One that has begun to acknowledge and
falls silent for `ACKNOWLEDGEMENT_GRACE_S` longer than the audio it has is taken to have played it all, so that a client
that can only listen any more holds nothing up.

It decides nothing about turns. Positions are samples of the reply; times are monotonic seconds, always given.
"""

from bisect import bisect_right
from typing import Final, NamedTuple

from services.orchestrator.conversation.events import Playback

ACKNOWLEDGEMENT_GRACE_S: Final = 2.0
"""Eight acknowledgements at the slowest pace that the API asks for."""

_END_TOLERANCE_S: Final = 0.01
"""A reply is heard to its end at this distance from it: positions were converted between sample rates."""


class Playout(NamedTuple):
    """One reply on its way to the ear.

    Attributes:
        rate_hz: of the reply's samples.
        ends: position after each chunk that was sent.
        characters: of the text that are spoken when that chunk ends.
        clock_s, clock_samples: at this moment the player went on from this position, by the server's clock.
        dry: how often it had nothing to play, by the server's clock.
        acknowledged_samples: what the client said; None for a client that has never said anything.
        acknowledged_s: when.
        acknowledged_dry: how often the client says it had nothing to play.
        stands: it was stopped, and goes on with the next samples sent.
    """

    rate_hz: int
    ends: tuple[int, ...] = ()
    characters: tuple[int, ...] = ()
    clock_s: float = 0.0
    clock_samples: int = 0
    dry: int = 0
    acknowledged_samples: int | None = None
    acknowledged_s: float = 0.0
    acknowledged_dry: int = 0
    stands: bool = False

    @property
    def sent_samples(self) -> int:
        """Position after the last sample that was sent."""
        return self.ends[-1] if self.ends else 0

    @property
    def spoken_characters(self) -> int:
        """Of the text that are spoken when everything sent has been heard."""
        return self.characters[-1] if self.characters else 0

    @property
    def underruns(self) -> int:
        """How often the player ran dry: by the client's word, or else by the server's clock."""
        return self.dry if self.acknowledged_samples is None else self.acknowledged_dry

    @property
    def heard_by_s(self) -> float:
        """From this moment on everything sent counts as heard, whatever the client says or does not say."""
        by_clock_s = self._clock_end_s
        if self.acknowledged_samples is None:
            return by_clock_s
        by_client_s = self.acknowledged_s + (self.sent_samples - self.acknowledged_samples) / self.rate_hz
        return max(by_clock_s, by_client_s) + ACKNOWLEDGEMENT_GRACE_S

    @property
    def _clock_end_s(self) -> float:
        return self.clock_s + (self.sent_samples - self.clock_samples) / self.rate_hz

    @property
    def _is_acknowledged(self) -> bool:
        tolerance = _END_TOLERANCE_S * self.rate_hz
        return self.acknowledged_samples is not None and self.sent_samples - self.acknowledged_samples <= tolerance

    def sending(self, at_s: float, end_sample: int, characters: int) -> "Playout":
        """The playout once the next samples, up to `end_sample`, were sent."""
        sent = self._replace(ends=(*self.ends, end_sample), characters=(*self.characters, characters))
        if not self.ends or self.stands:
            return sent._replace(clock_s=at_s, clock_samples=self.sent_samples, stands=False)
        if at_s > self._clock_end_s:
            return sent._replace(clock_s=at_s, clock_samples=self.sent_samples, dry=self.dry + 1)
        return sent

    def stopped_at(self, sample: int, characters: int) -> "Playout":
        """The playout of a reply that goes on from a sample, with so many characters spoken before it."""
        kept = bisect_right(self.ends, sample - 1)
        ends, spoken = (sample,) if sample else (), (characters,) if sample else ()
        known = None if self.acknowledged_samples is None else sample
        return self._replace(
            ends=(*self.ends[:kept], *ends),
            characters=(*self.characters[:kept], *spoken),
            acknowledged_samples=known,
            stands=True,
        )

    def acknowledging(self, at_s: float, playback: Playback) -> "Playout":
        """The playout once the client said this; what says less than before changes nothing."""
        if playback.played_samples < (self.acknowledged_samples or 0):
            return self
        played = min(playback.played_samples, self.sent_samples)
        dry = max(playback.underruns, self.acknowledged_dry)
        return self._replace(acknowledged_samples=played, acknowledged_s=at_s, acknowledged_dry=dry)

    def heard_samples(self, now_s: float) -> int:
        """Samples that were heard, as far as is known now."""
        sent = self.sent_samples
        if self.stands:
            return sent
        if self.acknowledged_samples is None:
            heard = self.clock_samples + int((now_s - self.clock_s) * self.rate_hz)
        else:
            heard = self.acknowledged_samples
            if self._is_acknowledged:
                return sent
        return sent if now_s >= self.heard_by_s else max(0, min(heard, sent))

    def is_unanswered(self, now_s: float) -> bool:
        """Whether a client that has acknowledged before does not any more."""
        is_known = self.acknowledged_samples is None or self._is_acknowledged
        return not is_known and now_s >= self.heard_by_s

    def lead_s(self, now_s: float) -> float:
        """How far the sent audio runs ahead of what was heard."""
        return (self.sent_samples - self.heard_samples(now_s)) / self.rate_hz

    def slack_s(self, now_s: float) -> float:
        """How long a listener in real time still has to hear; who says to have heard sooner is no such listener.

        A client that writes to a file, or acknowledges what it was sent as played, never runs dry: that it has nothing
        left says nothing of the rooms.
        """
        if self.stands:
            return 0.0
        return max(self.lead_s(now_s), self._clock_end_s - now_s, 0.0)

    def characters_at(self, sample: int) -> int:
        """Characters of the text that are spoken when this sample is heard: even between the ends of two chunks."""
        index = bisect_right(self.ends, sample)
        if index == len(self.ends):
            return self.spoken_characters
        first, before = (self.ends[index - 1], self.characters[index - 1]) if index else (0, 0)
        return before + (self.characters[index] - before) * (sample - first) // (self.ends[index] - first)


def whole_words(text: str, characters: int) -> str:
    """The beginning of a text up to so many characters, without a word that is cut in two.

    Scripts that write no spaces between words are cut at any character.
    """
    end = min(max(characters, 0), len(text))
    while 0 < end < len(text) and _joins(text[end - 1]) and _joins(text[end]):
        end -= 1
    return text[:end].rstrip()


def _joins(character: str) -> bool:
    """Whether a character forms words with its neighbours; those of East Asian scripts (from U+2E80) stand alone."""
    return character < "\u2e80" and (character.isalnum() or character in "'’-")
