"""The history has the words that were heard and no others, whatever a client acknowledges and whenever it interrupts.

    words    It      rains   in  Lisbon today.          each is spoken between two samples of the reply
    chunks   ├──────────┤├───────────┤├──────────┤      cut anywhere, also within words; some come late
    acks        ┊    ┊  ┊      ┊                        in any order, some twice, some beyond what was sent
    interrupted                  ┊

What is expected is worked out by hand here, word by word, and not by the code under test.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.orchestrator.conversation.effects import CommitTurn
from services.orchestrator.conversation.events import Interrupt, Playback, Timer
from services.orchestrator.conversation.outputs import TurnEnded
from services.orchestrator.conversation.record import Role
from tests.orchestrator.conversation.talk import Talk, one, spoken_context

pytestmark = pytest.mark.unit
WORDS = ("It", "rains", "in", "Lisbon,", "don't", "go", "out", "today.", "Bring", "coats!")
SAMPLES_PER_CHARACTER = 10
"""Every character is spoken for so long, the spaces too, so that a word's samples are known without the core."""


@dataclass(frozen=True)
class Story:
    """A reply and what its client does.

    Attributes:
        words: of the reply.
        cuts: characters at which its audio is cut into chunks.
        acks: samples played, as the client says them, one by one.
        sent: how many of the chunks are sent.
        last: what the interruption itself says was played; None says nothing.
    """

    words: tuple[str, ...]
    cuts: tuple[int, ...]
    acks: tuple[int, ...]
    sent: int
    last: int | None

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def ends(self) -> list[int]:
        """Character at which each chunk ends."""
        return sorted({*(cut % len(self.text) for cut in self.cuts if cut % len(self.text)), len(self.text)})

    @property
    def sent_samples(self) -> int:
        """Of the chunks that are sent."""
        ends = self.ends
        return ends[min(self.sent, len(ends)) - 1] * SAMPLES_PER_CHARACTER


STORIES = st.builds(
    Story,
    words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(tuple),
    cuts=st.lists(st.integers(1, 80), max_size=8).map(tuple),
    acks=st.lists(st.integers(0, 900), min_size=1, max_size=8).map(tuple),
    sent=st.integers(1, 9),
    last=st.none() | st.integers(0, 900),
)


def words_heard(words: Sequence[str], samples: int) -> str:
    """The words that end within so many samples."""
    heard: list[str] = []
    end = 0
    for word in words:
        end += len(word) + bool(heard)
        letters = len(word.rstrip(".,!"))
        spoken = end - (len(word) - letters)  # a word is heard with its last letter; its comma has no sound
        if spoken * SAMPLES_PER_CHARACTER > samples:
            break
        heard.append(word if end * SAMPLES_PER_CHARACTER <= samples else word[:letters])
    return " ".join(heard)


def tell(talk: Talk, story: Story) -> None:
    """The reply is made, sent and acknowledged up to its interruption."""
    talk.text()
    talk.make_text(story.text)
    begun = 0
    chunks = story.ends[: story.sent]
    for place, end in enumerate(chunks):
        talk.make_audio(begun * SAMPLES_PER_CHARACTER, end * SAMPLES_PER_CHARACTER, end)
        begun = end
        for ack in story.acks[place :: len(chunks)]:
            talk.acknowledge(1, ack)
    if story.sent >= len(story.ends):
        talk.made()


def expected_samples(story: Story) -> int:
    """The largest position that the client has claimed, each no further than what had been sent when it came."""
    claimed, chunks = 0, story.ends[: story.sent]
    for place, end in enumerate(chunks):
        for ack in story.acks[place :: len(chunks)]:
            claimed = max(claimed, min(ack, end * SAMPLES_PER_CHARACTER))
    return max(claimed, min(story.last or 0, story.sent_samples))


@settings(max_examples=300, deadline=None)
@given(STORIES)
def test_the_history_ends_at_the_word_that_was_heard_last(story: Story) -> None:
    talk = Talk()
    tell(talk, story)
    reply = talk.state.live_reply
    playback = None if story.last is None else Playback(1, story.last)
    talk.tell(Interrupt(talk.now_s, playback))
    talk.wait(600)
    talk.time(Timer.ACKNOWLEDGEMENT)
    if reply is not None and story.sent < len(story.ends):
        talk.stopped(reply)
    record = one(talk.effects, CommitTurn).record
    talk.committed(1)
    heard = one(talk.effects, TurnEnded).heard_samples
    if reply is None:  # all of it was made and heard before the interruption came
        assert (heard, record.agent_text) == (len(story.text) * SAMPLES_PER_CHARACTER, story.text)
        return
    slack = 10 if expected_samples(story) < story.sent_samples else 0
    assert expected_samples(story) <= heard <= expected_samples(story) + slack
    assert record.agent_text == words_heard(story.words, heard)
    told = [message.content for message in spoken_context(talk.text("next")) if message.role is Role.ASSISTANT]
    assert told == ([record.agent_text] if record.agent_text else [])


@pytest.mark.parametrize(
    ("samples", "heard"),
    [
        (0, ""),
        (19, ""),
        (20, "It"),
        (79, "It"),
        (80, "It rains"),
        (179, "It rains in"),
        (180, "It rains in Lisbon"),
        (190, "It rains in Lisbon,"),
    ],
)
def test_the_words_of_the_expectation_are_counted_right(samples: int, heard: str) -> None:
    assert words_heard(("It", "rains", "in", "Lisbon,", "today."), samples) == heard
