"""What was made of a reply so far, so that it can go on after it was stopped.

    text      ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒ all of it, as the chat model gave it
    clauses   ├──────┤├──────────┤  where each ended that was voiced whole
    audio            ░░░░▓▓▓▓▓▓▓▓▓  what the listener may not have heard yet

Text, voice, options and seed fix how a reply sounds, clause by clause. So what is not kept is made again and sounds the
same: from the clause on in which the reply goes on, and what comes before that sample is not reported.
"""

from collections import deque
from dataclasses import dataclass, field

from services.orchestrator.conversation.record import FirstAudioMarks
from services.orchestrator.ports.rooms import Samples


@dataclass(frozen=True, slots=True, eq=False)
class AudioPiece:
    """Samples of a reply; see `ReplyAudioMade`."""

    first_sample: int
    end_sample: int
    spoken_characters: int
    samples: Samples
    marks: FirstAudioMarks | None

    def after(self, sample: int) -> "AudioPiece | None":
        """What of it does not lie before a sample."""
        if sample <= self.first_sample:
            return self
        if sample >= self.end_sample:
            return None
        samples = self.samples[sample - self.first_sample :]
        return AudioPiece(sample, self.end_sample, self.spoken_characters, samples, self.marks)


@dataclass(slots=True)
class Made:
    """What was made of one reply.

    Attributes:
        written: its text, style tags included.
        is_written: no more text comes.
        clause_ends: positions at which its first clauses end; of a reply whose speed is changed, none.
        pieces: its newest audio, without gaps.
        is_foreign: another replica reported what was heard of it: how much of the text that is shows when it is made
            again.
    """

    written: str = ""
    is_written: bool = False
    clause_ends: list[int] = field(default_factory=list)
    pieces: deque[AudioPiece] = field(default_factory=deque)
    is_foreign: bool = False

    def copy(self) -> "Made":
        """The same, for other work on the reply."""
        return Made(self.written, self.is_written, list(self.clause_ends), deque(self.pieces), self.is_foreign)

    def following(self) -> "Made":
        """For a piece of the reply that follows this one, whose newest audio may not have been heard."""
        return Made(pieces=deque(self.pieces))

    def covers(self, sample: int) -> bool:
        """Whether the reply can be reported from this sample without making it again."""
        return bool(self.pieces) and self.pieces[0].first_sample <= sample <= self.pieces[-1].end_sample

    def keep(self, piece: AudioPiece) -> None:
        """The next samples were made."""
        self.pieces.append(piece)

    def forget(self, before_sample: int) -> None:
        """Let go of audio that was heard."""
        while self.pieces and self.pieces[0].end_sample <= before_sample:
            self.pieces.popleft()

    def rewind(self, sample: int) -> "Start":
        """Take the reply up from a sample; audio that does not follow from there is let go."""
        if not self.covers(sample):
            self.pieces.clear()
        kept = tuple(piece for old in self.pieces if (piece := old.after(sample)) is not None)
        self.pieces = deque(kept)
        end = kept[-1].end_sample if kept else sample
        clauses = sum(clause_end <= end for clause_end in self.clause_ends)
        del self.clause_ends[clauses:]
        return Start(kept, end, clauses, self.clause_ends[-1] if self.clause_ends else 0)


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """Where a reply begins to be worked out.

    Attributes:
        pieces: audio that is there already and is reported first.
        sample: from which audio is to be made.
        clauses: of its first clauses, how many need not be spoken.
        clause_sample: position at which the next one begins.
    """

    pieces: tuple[AudioPiece, ...] = ()
    sample: int = 0
    clauses: int = 0
    clause_sample: int = 0
