"""What the speech model learns: text to codes, in the room's own prompt, and beside it which word is being said.

Decides: who speaks how often (the assistant's voices by name or as clones, all others as clones only: they say the
words that the assistant has hardly ever said), which clip stands for a voice, how often the assistant's words are put
together in new lists, how strongly the codes it reads are disturbed. Second linguistic codes of pairs have ids of their
own. Refuses to know: networks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.nano.domain import STYLE_TAGS
from services.nano.lm.codes import shaken, used_values, with_pairs
from services.nano.lm.lists import WordLists
from services.nano.lm.said import Line, SaidPieces, Spoken
from services.nano.lm.task import NO_HINT, Example
from services.nano.pronunciation import Pronunciations
from services.nano.tokens.store import Rendition
from services.nano.tokens.vocabulary import SPEAKERS
from services.nano.training.draws import one_of
from services.nano.training.recorded import Clip
from services.shared.codec.codebooks import GROUP_TOKENS
from services.shared.errors import MissingFileError
from services.shared.prompt.speech import VoicePrompt, build_prompt
from services.shared.text import TextTokenizer

PROMPT_S: Final = (1.2, 2.6)
"""Length of a clip that stands for a voice."""
SHARES: Final = {"assistant": 0.35, "everyday": 0.35, "user": 0.2, "espeak": 0.1}
"""How often each kind of recording is drawn."""
_OURS: Final = frozenset({"assistant", "everyday"})
_CLONE_SHARE: Final = 0.2
_JOINED_SHARE: Final = 0.15
_LISTED_SHARE: Final = 0.2
"""Of the assistant's: lists put together anew of the words that its voice has said in lists."""
_LISTED: Final = (1, 2, 2, 2, 3)
"""Words behind the first."""
_MOST_SHAKEN: Final = 0.25
_LONGEST_S: Final = 9.0
_LONGEST_JOINED_S: Final = 4.0
_JUDGED: Final = 48
_TAG_OF: Final = {style: tag for tag, style in STYLE_TAGS.items()}


class SpeechExamples:
    """See `services.nano.lm.task.Examples`.

    Args:
        spoken: clips with each of their renditions.
        tokenizer: of the checkpoint.
        near: [5120, 6] near codec values.
        sounds: how the words of the texts sound.

    Raises:
        MissingFileError: the assistant has no clip to learn from, or none to stand for its voice.
    """

    def __init__(
        self, spoken: Sequence[Spoken], tokenizer: TextTokenizer, near: NDArray[np.int64], sounds: Pronunciations
    ) -> None:
        self._tokenizer, self._near, self._pieces = tokenizer, near, SaidPieces(tokenizer, sounds)
        short = [one for one in spoken if one[1].seconds <= _LONGEST_S]
        training = [one for one in short if not one[0].is_judged]
        self._prompts = _prompts_by_voice(training)
        self._names = {voice: [name for name, own in SPEAKERS.items() if own == voice] for voice in SPEAKERS.values()}
        heard = [one for one in training if voice_of(one[0]) in self._prompts]
        self._training = {kind: [one for one in heard if one[0].recording.kind == kind] for kind in SHARES}
        self._lists = self._word_lists(training)
        self._held = [
            one
            for one in short
            if one[0].is_judged and not one[1].number and one[0].recording.kind in _OURS and self._has_name(one[0])
        ]
        if not any(self._training[kind] for kind in _OURS):
            raise MissingFileError("no spoken replies to learn from; run the stages `speech` and `tokens`")
        self._kinds = [kind for kind in SHARES if self._training[kind]]
        shares = np.array([SHARES[kind] for kind in self._kinds])
        self._shares = shares / shares.sum()

    def targets(self) -> NDArray[np.int64]:
        """Every id that can be a target, ascending."""
        codes = used_values(pairs=True) + self._tokenizer.audio_offset
        ids: NDArray[np.int64] = np.unique(np.append(codes, self._tokenizer.eot_id))
        return ids

    def draw(self, rng: np.random.Generator) -> Example:
        """One sequence to train on."""
        kind = self._kinds[int(rng.choice(len(self._kinds), p=self._shares))]
        clip, rendition = one_of(self._training[kind], rng)
        lists = self._lists.get(voice_of(clip)) if kind in _OURS else None
        if lists and rng.random() < _LISTED_SHARE:
            line = lists.draw(one_of(_LISTED, rng), rng)
        else:
            line = self._line(clip, rendition)
            if rendition.seconds <= _LONGEST_JOINED_S and not clip.recording.style and rng.random() < _JOINED_SHARE:
                line = self._joined(line, voice_of(clip), self._training[kind], rng)
        prompts = self._prompts[voice_of(clip)]
        if self._has_name(clip) and rng.random() >= _CLONE_SHARE:
            return self._example(line, prompts[0], str(rng.choice(self._names[voice_of(clip)])), rng)
        others = [one for one in prompts if one[0] is not clip] or prompts
        return self._example(line, one_of(others, rng), "", rng)

    def judged(self) -> list[Example]:
        """Held-out renditions of the assistant."""
        chosen = self._held[:_JUDGED] or [one for kind in _OURS for one in self._training[kind]][:8]
        return [
            self._example(self._line(c, r), self._prompts[voice_of(c)][0], self._names[voice_of(c)][0])
            for c, r in chosen
        ]

    def _has_name(self, clip: Clip) -> bool:
        return clip.recording.kind in _OURS and voice_of(clip) in self._prompts

    def _word_lists(self, spoken: Sequence[Spoken]) -> dict[str, WordLists]:
        """Of each of the assistant's voices."""
        plain = [one for one in spoken if self._has_name(one[0]) and not one[0].recording.style]
        by_voice = {
            voice: WordLists(self._line(*one) for one in plain if voice_of(one[0]) == voice) for voice in self._names
        }
        return {voice: lists for voice, lists in by_voice.items() if lists}

    def _joined(self, line: Line, voice: str, spoken: Sequence[Spoken], rng: np.random.Generator) -> Line:
        """A line and another of the same voice behind it, if the one drawn is of that voice and short and plain."""
        clip, rendition = one_of(spoken, rng)
        if voice_of(clip) != voice or clip.recording.style or rendition.seconds > _LONGEST_JOINED_S:
            return line
        return Line.joined([line, self._line(clip, rendition)])

    def _line(self, clip: Clip, rendition: Rendition) -> Line:
        return replace(self._pieces.line(clip, rendition), text=tagged(clip))

    def _example(self, line: Line, prompt: Spoken, name: str, rng: np.random.Generator | None = None) -> Example:
        heard, read = prompt[1].values, line.values
        if rng is not None:
            heard = shaken(heard, self._near, float(rng.uniform(0, _MOST_SHAKEN)), rng)
            read = shaken(read, self._near, float(rng.uniform(0, _MOST_SHAKEN)), rng)
        before = build_prompt(
            self._tokenizer, line.text, VoicePrompt(name, prompt[0].recording.text, tuple(heard.tolist()))
        )
        offset, end = self._tokenizer.audio_offset, [self._tokenizer.eot_id]
        ids, targets = (np.concatenate([before, with_pairs(v) + offset, end]) for v in (read, line.values))
        hints = np.full(len(ids), NO_HINT, np.int64)
        said = line.said()
        hints[len(before) - 1 :][: len(said)] = said  # each code is predicted by the row before it
        return Example(ids.astype(np.int64), targets.astype(np.int64), len(before), hints=hints)


def tagged(clip: Clip) -> str:
    """The text of a clip with the tag of its style in front."""
    style = clip.recording.style
    return f"({_TAG_OF[style]}){clip.recording.text}" if style else clip.recording.text


def voice_of(clip: Clip) -> str:
    """Who speaks."""
    return clip.recording.voices[0][0]


def prompts_of(spoken: Sequence[Spoken], voice: str) -> list[Spoken]:
    """Undisturbed clips of a voice that can stand for it, the one that always does first."""
    return _prompts_by_voice(spoken).get(voice, [])


def _prompts_by_voice(spoken: Sequence[Spoken]) -> dict[str, list[Spoken]]:
    """See `prompts_of`; voices without one are left out."""
    low, high = PROMPT_S
    found: dict[str, list[Spoken]] = {}
    for one in spoken:
        if not one[0].recording.style and not one[1].number and low <= one[1].seconds <= high:
            found.setdefault(voice_of(one[0]), []).append(one)
    for prompts in found.values():
        prompts.sort(key=_fitness)
    return found


def _fitness(one: Spoken) -> tuple[bool, int, int, str]:
    """A reply before all else, so that more everyday sentences do not change what stands for a voice."""
    recording = one[0].recording
    length = abs(len(one[1].values) - 10 * GROUP_TOKENS)
    return recording.kind != "assistant", recording.round, length, recording.identity


def all_speech(clips: Sequence[Clip], renditions: Mapping[str, Sequence[Rendition]]) -> list[Spoken]:
    """What the speech model learns from: every rendition of the assistant's clips, others' undisturbed one."""
    return [
        (clip, rendition)
        for clip in clips
        if clip.recording.kind in SHARES
        for rendition in renditions.get(clip.recording.identity, ())
        if clip.recording.kind in _OURS or not rendition.number
    ]
