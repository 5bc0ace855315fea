"""What the speech model learns: text to the codes of the assistant's voices, in the room's own prompt.

Decides: which clip stands for a voice, how often a prompt is another clip without a name (a clone), how strongly the
codes it reads are disturbed. Second linguistic codes of pairs have ids of their own. Refuses to know: networks.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.nano.domain import STYLE_TAGS
from services.nano.lm.codes import shaken, used_values, with_pairs
from services.nano.lm.task import Example
from services.nano.tokens.store import Rendition
from services.nano.tokens.vocabulary import SPEAKERS
from services.nano.training.recorded import Clip
from services.shared.codec.codebooks import GROUP_TOKENS
from services.shared.errors import MissingFileError
from services.shared.prompt.speech import VoicePrompt, build_prompt
from services.shared.text import TextTokenizer

PROMPT_S: Final = (1.2, 2.6)
"""Length of a clip that stands for a voice."""
_CLONE_SHARE: Final = 0.2
_MOST_SHAKEN: Final = 0.25
_LONGEST_S: Final = 9.0
_JUDGED: Final = 48
_TAG_OF: Final = {style: tag for tag, style in STYLE_TAGS.items()}

Spoken = tuple[Clip, Rendition]


class SpeechExamples:
    """See `services.nano.lm.task.Examples`.

    Args:
        spoken: the assistant's clips with each of their renditions.
        tokenizer: of the checkpoint.
        near: [5120, 6] near codec values.

    Raises:
        MissingFileError: a voice has no clip to stand for it.
    """

    def __init__(self, spoken: Sequence[Spoken], tokenizer: TextTokenizer, near: NDArray[np.int64]) -> None:
        self._tokenizer = tokenizer
        self._near = near
        short = [one for one in spoken if one[1].seconds <= _LONGEST_S]
        self._training = [one for one in short if not one[0].is_judged]
        self._held = [one for one in short if one[0].is_judged and one[1].number == 0]
        self._prompts = {voice: prompts_of(self._training, voice) for voice in set(SPEAKERS.values())}
        self._training = [one for one in self._training if self._prompts.get(voice_of(one[0]))]
        if not self._training:
            raise MissingFileError("no spoken replies to learn from; run the stages `speech` and `tokens`")
        self._names = {voice: [name for name, own in SPEAKERS.items() if own == voice] for voice in self._prompts}

    def targets(self) -> NDArray[np.int64]:
        """Every id that can be a target, ascending."""
        codes = used_values(pairs=True) + self._tokenizer.audio_offset
        ids: NDArray[np.int64] = np.unique(np.append(codes, self._tokenizer.eot_id))
        return ids

    def draw(self, rng: np.random.Generator) -> Example:
        """One sequence to train on."""
        clip, rendition = self._training[int(rng.integers(len(self._training)))]
        voice = voice_of(clip)
        prompts, name = self._prompts[voice], str(rng.choice(self._names[voice]))
        prompt = prompts[0]
        if rng.random() < _CLONE_SHARE:
            prompt, name = prompts[int(rng.integers(len(prompts)))], ""
        return self._example(clip, rendition, prompt, name, rng)

    def judged(self) -> list[Example]:
        """Held-out renditions of replies."""
        chosen = [one for one in self._held if self._prompts.get(voice_of(one[0]))][:_JUDGED] or self._training[:8]
        return [self._example(c, r, self._prompts[voice_of(c)][0], self._names[voice_of(c)][0]) for c, r in chosen]

    def _example(
        self, clip: Clip, rendition: Rendition, prompt: Spoken, name: str, rng: np.random.Generator | None = None
    ) -> Example:
        heard, read = prompt[1].values, rendition.values
        if rng is not None:
            heard = shaken(heard, self._near, float(rng.uniform(0, _MOST_SHAKEN)), rng)
            read = shaken(read, self._near, float(rng.uniform(0, _MOST_SHAKEN)), rng)
        text = tagged(clip)
        before = build_prompt(self._tokenizer, text, VoicePrompt(name, prompt[0].recording.text, tuple(heard.tolist())))
        offset, end = self._tokenizer.audio_offset, [self._tokenizer.eot_id]
        ids, targets = (np.concatenate([before, with_pairs(v) + offset, end]) for v in (read, rendition.values))
        return Example(ids.astype(np.int64), targets.astype(np.int64), len(before))


def tagged(clip: Clip) -> str:
    """The text of a clip with the tag of its style in front."""
    style = clip.recording.style
    return f"({_TAG_OF[style]}){clip.recording.text}" if style else clip.recording.text


def voice_of(clip: Clip) -> str:
    """Who speaks."""
    return clip.recording.voices[0][0]


def prompts_of(spoken: Sequence[Spoken], voice: str) -> list[Spoken]:
    """Undisturbed clips of a voice that can stand for it, the one that always does first."""
    low, high = PROMPT_S
    found = [
        one
        for one in spoken
        if voice_of(one[0]) == voice
        and not one[0].recording.style
        and not one[1].number
        and low <= one[1].seconds <= high
    ]
    return sorted(
        found,
        key=lambda one: (
            one[0].recording.round,
            abs(len(one[1].values) - 10 * GROUP_TOKENS),
            one[0].recording.identity,
        ),
    )


def assistant_speech(clips: Sequence[Clip], renditions: Mapping[str, Sequence[Rendition]]) -> list[Spoken]:
    """Every rendition of the assistant's clips."""
    ours = [clip for clip in clips if clip.recording.kind in ("assistant", "everyday")]
    return [(clip, rendition) for clip in ours for rendition in renditions.get(clip.recording.identity, ())]
