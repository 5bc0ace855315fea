"""What people say and what is answered: drawn for each turn, with one seed for all."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

TOKEN_S: Final = 0.024
"""Audio of a speech token: 41.67 a second."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its reply.

    Attributes:
        pause_s: before it, since the reply before was heard.
        speech_s: the user's speech.
        hesitations: pauses within it at which a reply is prepared for nothing.
        prompt_tokens: that the chat model reads, beyond what its cache holds.
        clauses: of the reply, each (text tokens, speech tokens).
    """

    pause_s: float
    speech_s: float
    prompt_tokens: int
    clauses: tuple[tuple[int, int], ...]
    hesitations: int = 0

    @property
    def reply_s(self) -> float:
        """The reply's audio."""
        return TOKEN_S * sum(speech for _, speech in self.clauses)


@dataclass(frozen=True, slots=True)
class Habits:
    """How the pipeline treats every turn; the defaults are the orchestrator's.

    Attributes:
        endpointing_s: silence that ends a turn.
        prepare_s: silence after which the reply is prepared; with that of `endpointing_s` nothing is.
        prepared_s: audio that is made before the turn has ended.
        hearing_s: user audio that the tokenizer is given at once.
        speech_group: speech tokens that a response of the tts room carries.
        first_tokens, chunk_tokens: speech that the vocoder is given first, and later at most.
        lead_s: audio that is made ahead of the listener.
        clause_prompt_tokens: of the speech model, with the voice.
        plays: whether the listener hears in real time; else a reply is heard as soon as it is made.
    """

    endpointing_s: float = 0.7
    prepare_s: float = 0.2
    prepared_s: float = 1.2
    hearing_s: float = 0.24
    speech_group: int = 5
    first_tokens: int = 25
    chunk_tokens: int = 100
    lead_s: float = 3.0
    clause_prompt_tokens: int = 250
    plays: bool = True


Turns = Callable[[random.Random], Turn]
"""Draws a turn."""

HESITATING: Final = 0.4
"""Share of turns with a pause long enough to be taken for an end at first."""
TEXT_PER_SPEECH: Final = 5 / 41.67
"""Text tokens a speech token, in the released models' English and Chinese."""


def everyday_turn(chance: random.Random) -> Turn:
    """People who ask and listen: questions of about 3 s, replies of about 6 s in clauses of 2 s, 2 s of thought.

    The agent then speaks 40 % of the time, which is what the presets' arithmetic takes. Of a prompt only the last turn
    is read: what stands before it is in the cache of its prefix.
    """
    reply = math.ceil(min(_lognormal(chance, 6.0, 0.5), 30.0) / TOKEN_S)
    clauses: list[tuple[int, int]] = []
    while reply > 0:
        speech = min(reply, math.ceil(_lognormal(chance, 2.0, 0.35) / TOKEN_S))
        clauses.append((max(1, round(speech * TEXT_PER_SPEECH)), speech))
        reply -= speech
    return Turn(
        pause_s=chance.expovariate(1 / 2.0),
        speech_s=min(_lognormal(chance, 3.0, 0.5), 30.0),
        prompt_tokens=round(min(_lognormal(chance, 300.0, 0.5), 4000.0)),
        clauses=tuple(clauses),
        hesitations=int(chance.random() < HESITATING),
    )


def one_of(turns: Sequence[Turn]) -> Turns:
    """Draws one of the turns that were seen."""
    return lambda chance: chance.choice(turns)


def _lognormal(chance: random.Random, median: float, spread: float) -> float:
    return chance.lognormvariate(math.log(median), spread)
