"""What is asked of a checkpoint: questions, sentences to say, recordings to say again, human clips, streams of codes.

Decides: what is heard, said and counted as an item. Refuses to know: figures and pages. Every part yields `Outcome`s.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.nano.figures import words
from benchmarks.nano.judges import Recogniser, Samples, at_16k
from services.nano.domain import spoken_text, without_calls
from services.nano.evaluation import NEW_TO_NEW, RECALL, SEEN_TO_NEW, SENTENCE, Asked
from services.nano.grammar import CALL_END, CALL_START
from services.nano.tokens.vocabulary import SPEAKERS
from services.offline.pipeline import OfflinePipeline
from services.offline.speaking import SpeechOptions
from services.shared.audio.files import Audio, read_audio
from services.shared.errors import StepAudioError
from services.shared.prompt.chat import CHAT_SYSTEM_PROMPT, Message, SpeechContent

ANSWERED, WRITTEN, RECALLED, SPOKEN = "answered", "answered in writing", "recalled", "spoken reply"
RECORDED, RESYNTHESISED = "recording", "resynthesis"
TTS_REPLIES, TTS_SENTENCES = "spoken text: replies", "spoken text: unseen sentences"
HUMAN: Final = "human"
ALIGNED: Final = "stream of codes"
REPEAT: Final = "repeat"
"""Intent of what asks to repeat random words."""
CLONED: Final = "spoken by a clone"
STREAMS: Final = 200
HUMAN_RATE_HZ: Final = 16_000
_HUMAN_RAW: Final = {"goforward.raw": "go forward ten meters", "tidigits/dhd.2934z.raw": "two nine three four zero"}
"""Clips of pocketsphinx's test data whose words stand nowhere beside them."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of one item.

    Attributes:
        part: ANSWERED and so on.
        group: of the set, or the voice that spoke.
        name: short, unique within its part.
        text: what was asked, said or to be said.
        wanted: what a judge should hear; several where several are right.
        heard: the chat model's own transcript.
        replied: the reply as text, calls among it.
        right: whether text or stream is as it should be.
        judged: each judge's transcript of `samples`.
        samples: what was made, at 16 kHz.
        fault: why nothing was made.
        intent: of what was asked or is replied, where that is known.
    """

    part: str
    group: str
    name: str
    text: str
    wanted: tuple[str, ...] = ()
    heard: str | None = None
    replied: str | None = None
    right: bool | None = None
    judged: Mapping[str, str] = field(default_factory=dict)
    samples: Samples | None = None
    fault: str = ""
    intent: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Examiner:
    """One checkpoint, its judges and what may be spent.

    Attributes:
        pipeline: the checkpoint.
        judges: by name.
        limit: items a group; None for all.
        options: how to speak.
        temperature: of the chat model; the checkpoint's own if None.
    """

    pipeline: OfflinePipeline
    judges: Mapping[str, Recogniser]
    limit: int | None
    options: SpeechOptions
    temperature: float | None = None

    @property
    def voices(self) -> list[str]:
        """The checkpoint's voices whose clips differ, in its order; clones are none of them."""
        seen: dict[bytes, str] = {}
        registry = self.pipeline.rooms.voices
        for voice in map(registry.get, registry.names):
            if not voice.cloned:
                seen.setdefault(voice.audio().samples.tobytes(), voice.name)
        return list(seen.values())

    def some(self, items: Sequence[Asked]) -> Sequence[Asked]:
        """The first items, as many as wanted."""
        return items[: self.limit]

    def judge(self, outcome: Outcome, samples: Samples, rate_hz: int) -> Outcome:
        """The outcome with its sound and what each judge hears."""
        heard = at_16k(samples, rate_hz)
        return replace(outcome, samples=heard, judged={name: hear(heard) for name, hear in self.judges.items()})

    def say(self, outcome: Outcome, text: str, voice: str | None, seed: int) -> Outcome:
        """The outcome with the text spoken and judged."""
        options = replace(self.options, voice=voice, seed=self.options.seed + seed)
        try:
            speech = self.pipeline.say(text, options).speech
        except StepAudioError as error:
            return replace(outcome, judged=dict.fromkeys(self.judges, ""), fault=str(error))
        return self.judge(outcome, speech.samples, speech.sample_rate_hz)


def questions(examiner: Examiner, asked: Sequence[Asked], folder: Path) -> Iterator[Outcome]:
    """Every question's reply and transcript, and the reply to the same in writing where the voice is held out.

    Where phrasing and voice are new, the reply is spoken as well.
    """
    groups = dict.fromkeys(one.group for one in asked if one.group != SENTENCE)
    for group in groups:
        for number, one in enumerate(examiner.some([a for a in asked if a.group == group])):
            outcome = answer(examiner, one, read_audio(folder / one.file), f"{number:03}")
            yield outcome
            if group in (NEW_TO_NEW, SEEN_TO_NEW):
                yield _answer_to_text(examiner, one, f"{number:03}")
            if group == NEW_TO_NEW:
                spoken = replace(outcome, part=SPOKEN, wanted=_spoken(one))
                if outcome.replied and not outcome.fault and (text := without_calls(outcome.replied)):
                    yield examiner.say(spoken, text, None, number)
                else:
                    yield replace(spoken, judged=dict.fromkeys(examiner.judges, ""))
        _log.info("asked: %s", group)


def answer(examiner: Examiner, asked: Asked, recording: Audio, name: str) -> Outcome:
    """The reply to one recording in its conversation, as text."""
    part = RECALLED if asked.group == RECALL else ANSWERED
    outcome = Outcome(part, asked.group, name, asked.text, (asked.text,), right=False, intent=asked.intent)
    rooms = examiner.pipeline.rooms
    try:
        tokens = rooms.tokenizer.tokenize(recording.samples, recording.sample_rate_hz).interleaved
        heard = rooms.chat.transcribe(tokens).strip()
        replied = _reply(examiner, asked, SpeechContent([int(token) for token in tokens]))
    except StepAudioError as error:
        return replace(outcome, heard="", replied="", fault=str(error))
    return replace(outcome, heard=heard, replied=replied, right=is_right(replied, asked))


def _answer_to_text(examiner: Examiner, asked: Asked, name: str) -> Outcome:
    """The reply to the same words in writing."""
    outcome = Outcome(WRITTEN, asked.group, name, asked.text, asked.answers, right=False, intent=asked.intent)
    try:
        replied = _reply(examiner, asked, asked.text)
    except StepAudioError as error:
        return replace(outcome, replied="", fault=str(error))
    return replace(outcome, replied=replied, right=is_right(replied, asked))


def _reply(examiner: Examiner, asked: Asked, content: str | SpeechContent) -> str:
    """What the chat model says to it in its conversation."""
    chat, system = examiner.pipeline.rooms.chat, CHAT_SYSTEM_PROMPT
    params = chat.params
    if examiner.temperature is not None:
        params = replace(params, temperature=examiner.temperature)
    messages = [Message("system", f"{system}\n{asked.facts}" if asked.facts else system)]
    messages += [Message(turn.role, turn.text) for turn in asked.history]
    messages.append(Message("user", content))
    return "".join(chat.reply(messages, params, with_calls=True)).strip()


def is_right(reply: str, asked: Asked) -> bool:
    """Whether a reply is one of the item's; its calls count by their words."""
    return words(_plain(reply)) in [words(_plain(answer)) for answer in asked.answers]


def _plain(text: str) -> str:
    return text.replace(CALL_START, " ").replace(CALL_END, " ")


def sentences(examiner: Examiner, asked: Sequence[Asked], folder: Path) -> Iterator[Outcome]:
    """Unseen sentences: as recorded, through the codes and back in the same voice, spoken from text; replies spoken."""
    voices = examiner.voices
    for number, one in enumerate(examiner.some([a for a in asked if a.group == SENTENCE])):
        recording, name = read_audio(folder / one.file), f"{number:03}"
        said = Outcome(RECORDED, one.voice, name, one.text, wanted=(one.text,))
        yield examiner.judge(said, recording.samples, recording.sample_rate_hz)
        voice = voices[number % len(voices)]
        said = replace(said, group=voice)
        own = next((name for name in voices if SPEAKERS.get(name) == one.voice), voice)
        yield _resynthesised(examiner, replace(said, part=RESYNTHESISED, group=own), recording, own)
        yield examiner.say(replace(said, part=TTS_SENTENCES), one.text, voice, number)
    for number, (text, intent) in enumerate(list(reply_texts(asked).items())[: examiner.limit or 60]):
        voice = voices[number % len(voices)]
        said = Outcome(TTS_REPLIES, voice, f"{number:03}", text, (spoken_text(text),), intent=intent)
        yield examiner.say(said, text, voice, number)
    _log.info("said: sentences and replies")


def clones(examiner: Examiner, asked: Sequence[Asked], folder: Path) -> Iterator[Outcome]:
    """Sentences in the voice of a clip that no training has heard."""
    clip = max(
        (one for one in asked if one.group in (NEW_TO_NEW, SEEN_TO_NEW)), key=lambda one: (len(one.text), one.file)
    )
    audio = read_audio(folder / clip.file)
    name = f"clone of {clip.voice}"
    examiner.pipeline.add_voice(name, audio, text=clip.text)
    for number, one in enumerate(examiner.some([a for a in asked if a.group == SENTENCE])[:20]):
        said = Outcome(CLONED, clip.voice, f"{number:03}", one.text, wanted=(one.text,))
        yield examiner.say(said, one.text, name, number)
    _log.info("said: %s", name)


def streams(examiner: Examiner, asked: Sequence[Asked]) -> Iterator[Outcome]:
    """Streams of codes for replies and sentences, with another seed each; right where nothing had to be mended."""
    texts = [*reply_texts(asked), *(one.text for one in asked if one.group == SENTENCE)]
    rooms, voices = examiner.pipeline.rooms, examiner.voices
    prepared = [rooms.prepare(rooms.voices.get(name), music=False).prompt for name in voices]
    params = rooms.speech.params
    if examiner.options.temperature is not None:
        params = replace(params, temperature=examiner.options.temperature)
    for number in range(STREAMS if examiner.limit is None else 3 * examiner.limit):
        text, place = texts[number % len(texts)], number % len(voices)
        stream = rooms.speech.speak(text, prepared[place], replace(params, seed=1000 + number))
        outcome = Outcome(ALIGNED, voices[place], f"{number:03}", text)
        try:
            for _ in stream:
                pass
        except StepAudioError as error:
            yield replace(outcome, right=False, fault=str(error))
        else:
            yield replace(outcome, right=stream.repairs.faults == 0)
    _log.info("streams: done")


def human(examiner: Examiner, folder: Path) -> Iterator[Outcome]:
    """Clips of people reading: the chat model's transcript, and what the judges hear."""
    for name, (text, recording) in human_clips(folder).items():
        rooms = examiner.pipeline.rooms
        tokens = rooms.tokenizer.tokenize(recording.samples, recording.sample_rate_hz).interleaved
        outcome = Outcome(HUMAN, HUMAN, name, text, wanted=(text,), heard=rooms.chat.transcribe(tokens).strip())
        yield examiner.judge(outcome, recording.samples, recording.sample_rate_hz)


def human_clips(folder: Path) -> dict[str, tuple[str, Audio]]:
    """Name -> (words, recording) of pocketsphinx's test data; empty where the folder is not there."""
    found: dict[str, tuple[str, Audio]] = {}
    for path in sorted(folder.glob("*/*transcription")):
        for line in path.read_text(encoding="utf-8").splitlines():
            text, _, name = line.replace("<s>", "").replace("</s>", "").rpartition("(")
            clip = path.parent / f"{name.strip(' )')}.wav"
            if clip.exists():
                found[clip.stem] = (text.strip(), read_audio(clip))
    for raw, text in _HUMAN_RAW.items():
        if (folder / raw).exists():
            samples = np.fromfile(folder / raw, "<i2").astype(np.float32) / np.float32(32_768.0)
            found[Path(raw).stem] = (text, Audio(samples, HUMAN_RATE_HZ))
    return found


def reply_texts(asked: Sequence[Asked]) -> dict[str, str]:
    """Distinct replies of the set as the speech model gets them, with style tags and without calls; their intents."""
    found: dict[str, str] = {}
    for one in asked:
        if one.answers and one.group != RECALL:
            tag = one.answers[0][: one.answers[0].find(")") + 1] if one.answers[0].startswith("(") else ""
            found.setdefault(tag + spoken_text(one.answers[0]), one.intent)
    return found


def _spoken(asked: Asked) -> tuple[str, ...]:
    return tuple(spoken_text(answer) for answer in asked.answers)


def _resynthesised(examiner: Examiner, outcome: Outcome, recording: Audio, voice: str) -> Outcome:
    try:
        speech = examiner.pipeline.resynthesize(recording, replace(examiner.options, voice=voice)).speech
    except StepAudioError as error:
        return replace(outcome, judged=dict.fromkeys(examiner.judges, ""), fault=str(error))
    return examiner.judge(outcome, speech.samples, speech.sample_rate_hz)
