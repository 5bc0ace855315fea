"""The offline half of the command line: each command as a function that runs the rooms in this process.

Results go to standard output, progress to standard error and only on a terminal. What goes wrong is raised: the command
line itself makes messages and exit codes of it.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from rich.console import Console
from rich.status import Status

from services.offline.output import time_table
from services.offline.pipeline import ChatOptions, OfflinePipeline, Spoken
from services.offline.settings import OfflineSettings, read_settings
from services.offline.speaking import SpeechOptions
from services.shared.audio.files import read_audio
from services.shared.audio.output import OutputFile
from services.shared.errors import InvalidInputError

CLONE_NAME: Final = "clone"
_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Effects:
    """What is done to the speech after it was made.

    Attributes:
        speed: tempo ratio, pitch kept.
        volume: amplitude ratio.
        rate_hz: output sample rate; the vocoder's own if None.
    """

    speed: float = 1.0
    volume: float = 1.0
    rate_hz: int | None = None


@dataclass(frozen=True, slots=True)
class _Run:
    """One run: its settings, the pipeline, and the progress display, which ends before results are printed."""

    settings: OfflineSettings
    pipeline: OfflinePipeline
    progress: Status
    console: Console

    def speech_options(self, effects: Effects) -> SpeechOptions:
        settings = self.settings
        return SpeechOptions(
            voice=settings.voice,
            seed=settings.seed,
            temperature=settings.speech_temperature,
            speed=effects.speed,
            volume=effects.volume,
            sample_rate_hz=effects.rate_hz,
        )


def ask(
    output: Path, question: Path | None, text: str | None, effects: Effects, settings: Mapping[str, object]
) -> None:
    """Answer a spoken or written question by voice.

    Args:
        output: the wav file to write.
        question, text: the one or the other.
        effects: what is done to the speech.
        settings: of `OfflineSettings`; None is not given.

    Raises:
        StepAudioError: the request, the checkpoint or the work is at fault.
    """
    with _run(settings) as run:
        if (question is None) == (text is None):
            raise InvalidInputError("give a recorded question or --text, one of the two")
        options = run.speech_options(effects)
        chat = ChatOptions(run.settings.system, run.settings.temperature, run.settings.seed)
        with OutputFile(output) as file:
            asked = read_audio(question) if question is not None else text or ""
            answer = run.pipeline.ask(asked, chat, options)
            file.write(answer.speech.samples, answer.speech.sample_rate_hz)
        if answer.heard is not None:
            _print(run, f"heard:    {answer.heard}")
        _print(run, f"answered: {answer.text}")
        _print_speech(run, output, Spoken(answer.speech, answer.times))


def say(text: str, output: Path, effects: Effects, settings: Mapping[str, object]) -> None:
    """Speak a text. Arguments and errors as `ask`."""
    with _run(settings) as run:
        options = run.speech_options(effects)
        with OutputFile(output) as file:
            spoken = run.pipeline.say(text, options)
            file.write(spoken.speech.samples, spoken.speech.sample_rate_hz)
        _print_speech(run, output, spoken)


def clone(
    clip: Path, clip_text: str, text: str, output: Path, *, effects: Effects, settings: Mapping[str, object]
) -> None:
    """Speak a text in the voice of a recording. Arguments and errors as `ask`."""
    with _run({**settings, "voice": CLONE_NAME}) as run:
        options = run.speech_options(effects)
        with OutputFile(output) as file:
            run.pipeline.add_voice(CLONE_NAME, read_audio(clip), text=clip_text)
            spoken = run.pipeline.say(text, options)
            file.write(spoken.speech.samples, spoken.speech.sample_rate_hz)
        _print_speech(run, output, spoken)


def transcribe(recording: Path, settings: Mapping[str, object]) -> None:
    """Write down what a recording says. Arguments and errors as `ask`."""
    with _run(settings) as run:
        _print(run, run.pipeline.transcribe(read_audio(recording)).text)


def tokenize(recording: Path, settings: Mapping[str, object], *, as_json: bool) -> None:
    """Print the speech tokens of a recording. Arguments and errors as `ask`."""
    with _run(settings) as run:
        tokens = run.pipeline.tokenize(read_audio(recording))
        if as_json:
            names = ("linguistic", "semantic", "interleaved")
            _print(run, json.dumps({name: getattr(tokens, name).tolist() for name in names}))
        else:
            _print(run, " ".join(str(token) for token in tokens.interleaved.tolist()))


def resynthesize(recording: Path, output: Path, effects: Effects, settings: Mapping[str, object]) -> None:
    """Turn a recording into tokens and back. Arguments and errors as `ask`."""
    with _run(settings) as run:
        options = run.speech_options(effects)
        with OutputFile(output) as file:
            spoken = run.pipeline.resynthesize(read_audio(recording), options)
            file.write(spoken.speech.samples, spoken.speech.sample_rate_hz)
        _print_speech(run, output, spoken)


@contextmanager
def _run(overrides: Mapping[str, object]) -> Iterator[_Run]:
    """Set up one run and show its progress."""
    progress = Console(stderr=True)
    settings = read_settings(**overrides)
    torch.set_num_threads(settings.threads)
    status = progress.status("starting")
    notify = status.update if progress.is_terminal else lambda step: None
    pipeline = OfflinePipeline(settings.checkpoints, notify=notify, dtype=_DTYPES[settings.dtype])
    if progress.is_terminal:
        status.start()
    try:
        yield _Run(settings, pipeline, status, Console())
    finally:
        status.stop()


def _print(run: _Run, line: str) -> None:
    run.progress.stop()
    run.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _print_speech(run: _Run, output: Path, spoken: Spoken) -> None:
    retries = sum(clause.attempts - 1 for clause in spoken.speech.clauses)
    again = f", {retries} more {'try' if retries == 1 else 'tries'} needed" if retries else ""
    _print(run, f"wav:      {output} ({spoken.speech.duration_s:.2f} s at {spoken.speech.sample_rate_hz} Hz{again})")
    run.console.print()
    run.console.print(time_table(spoken.times, run.pipeline.rooms.loading.times({})))
