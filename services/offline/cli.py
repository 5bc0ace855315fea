"""The command line `stepaudio`: asks, speaks, clones, transcribes, tokenizes, resynthesizes.

Results go to standard output, progress and errors to standard error, progress only on a terminal. A failure is one line
and an exit code:

    2   the request is wrong: its audio, text, voice or options
    3   the checkpoint cannot be used
    1   anything else, e.g. the model produced no speech
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import torch
import typer
from rich.console import Console
from rich.status import Status

from services.offline.output import OutputFile, time_table
from services.offline.pipeline import ChatOptions, OfflinePipeline, Spoken
from services.offline.settings import OfflineSettings, read_settings
from services.offline.speaking import SpeechOptions
from services.shared.audio.files import read_audio
from services.shared.errors import CheckpointError, InvalidInputError, StepAudioError, VoiceNotFoundError

app = typer.Typer(
    name="stepaudio",
    help="Speech to speech with Step-Audio, offline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # local values are audio and text of the user
)

CLONE_NAME: Final = "clone"
_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_REQUEST_IS_WRONG, _CHECKPOINT_IS_WRONG, _FAILED = 2, 3, 1

Checkpoints = Annotated[
    Path | None, typer.Option(help="Folder of the three public folders; the nano checkpoint if left out.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="The wav file to write.")]
VoiceName = Annotated[str | None, typer.Option("--voice", help="Who speaks; the checkpoint's first voice if left out.")]
Speed = Annotated[float, typer.Option(help="Tempo, pitch kept: 2 is twice as fast; 0.25 to 4.")]
Volume = Annotated[float, typer.Option(help="Amplitude: 2 is twice as loud; 0 to 10.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same speech.")]
SpeechTemperature = Annotated[float | None, typer.Option(help="Of the speech; lower is plainer and slips less.")]
Rate = Annotated[int | None, typer.Option(help="Output sample rate in Hz; 22050 if left out.")]
Threads = Annotated[int | None, typer.Option(help="Threads of every network; 1 if left out.")]


@dataclass(frozen=True, slots=True)
class _Run:
    """One run: its settings, the pipeline, and the progress display, which ends before results are printed."""

    settings: OfflineSettings
    pipeline: OfflinePipeline
    progress: Status
    console: Console

    def speech_options(self, *, speed: float = 1.0, volume: float = 1.0, rate: int | None = None) -> SpeechOptions:
        settings = self.settings
        return SpeechOptions(
            voice=settings.voice,
            seed=settings.seed,
            temperature=settings.speech_temperature,
            speed=speed,
            volume=volume,
            sample_rate_hz=rate,
        )


@app.command()
def ask(  # noqa: PLR0913 - every parameter is an option of the command line
    output: Output,
    question: Annotated[Path | None, typer.Argument(help="The recorded question.", show_default=False)] = None,
    text: Annotated[str | None, typer.Option(help="A written question instead of a recorded one.")] = None,
    *,
    system: Annotated[str | None, typer.Option(help="System prompt of the conversation; '' for none.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the answer's words; 0 is the likeliest.")] = None,
    voice: VoiceName = None,
    speed: Speed = 1.0,
    volume: Volume = 1.0,
    rate: Rate = None,
    seed: Seed = None,
    speech_temperature: SpeechTemperature = None,
    checkpoints: Checkpoints = None,
    threads: Threads = None,
) -> None:
    """Answer a spoken or written question by voice."""
    overrides = {"system": system, "temperature": temperature, "voice": voice, "speech_temperature": speech_temperature}
    with _run(checkpoints=checkpoints, seed=seed, threads=threads, **overrides) as run:
        if (question is None) == (text is None):
            raise InvalidInputError("give a recorded question or --text, one of the two")
        options = run.speech_options(speed=speed, volume=volume, rate=rate)
        settings = run.settings
        chat = ChatOptions(settings.system, settings.temperature, settings.seed)
        with OutputFile(output) as file:
            asked = read_audio(question) if question is not None else text or ""
            answer = run.pipeline.ask(asked, chat, options)
            file.write(answer.speech)
        if answer.heard is not None:
            _print(run, f"heard:    {answer.heard}")
        _print(run, f"answered: {answer.text}")
        _print_speech(run, output, Spoken(answer.speech, answer.times))


@app.command()
def say(  # noqa: PLR0913 - every parameter is an option of the command line
    text: Annotated[str, typer.Argument(help="What to say; style tags such as (高兴1) stand in front.")],
    output: Output,
    *,
    voice: VoiceName = None,
    speed: Speed = 1.0,
    volume: Volume = 1.0,
    rate: Rate = None,
    seed: Seed = None,
    speech_temperature: SpeechTemperature = None,
    checkpoints: Checkpoints = None,
    threads: Threads = None,
) -> None:
    """Speak a text."""
    overrides = {"voice": voice, "speech_temperature": speech_temperature}
    with _run(checkpoints=checkpoints, seed=seed, threads=threads, **overrides) as run:
        options = run.speech_options(speed=speed, volume=volume, rate=rate)
        with OutputFile(output) as file:
            spoken = run.pipeline.say(text, options)
            file.write(spoken.speech)
        _print_speech(run, output, spoken)


@app.command()
def clone(  # noqa: PLR0913 - every parameter is an option of the command line
    clip: Annotated[Path, typer.Argument(help="A recording of the voice, 0.5 to 30 s.")],
    text: Annotated[str, typer.Argument(help="What to say.")],
    output: Output,
    clip_text: Annotated[str, typer.Option(help="What the recording says.")],
    *,
    speed: Speed = 1.0,
    volume: Volume = 1.0,
    rate: Rate = None,
    seed: Seed = None,
    speech_temperature: SpeechTemperature = None,
    checkpoints: Checkpoints = None,
    threads: Threads = None,
) -> None:
    """Speak a text in the voice of a recording."""
    overrides = {"voice": CLONE_NAME, "speech_temperature": speech_temperature}
    with _run(checkpoints=checkpoints, seed=seed, threads=threads, **overrides) as run:
        options = run.speech_options(speed=speed, volume=volume, rate=rate)
        with OutputFile(output) as file:
            run.pipeline.add_voice(CLONE_NAME, read_audio(clip), text=clip_text)
            spoken = run.pipeline.say(text, options)
            file.write(spoken.speech)
        _print_speech(run, output, spoken)


@app.command()
def transcribe(
    recording: Annotated[Path, typer.Argument(help="Speech to write down.")],
    *,
    checkpoints: Checkpoints = None,
    threads: Threads = None,
) -> None:
    """Write down what a recording says."""
    with _run(checkpoints=checkpoints, threads=threads) as run:
        _print(run, run.pipeline.transcribe(read_audio(recording)).text)


@app.command()
def tokenize(
    recording: Annotated[Path, typer.Argument(help="Audio to tokenize.")],
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Both codebooks and the interleaved stream, as JSON.")
    ] = False,
    checkpoints: Checkpoints = None,
    threads: Threads = None,
) -> None:
    """Print the speech tokens of a recording: codec values 0..5119 in 2:3 groups, 41.67 a second."""
    with _run(checkpoints=checkpoints, threads=threads) as run:
        tokens = run.pipeline.tokenize(read_audio(recording))
        if as_json:
            names = ("linguistic", "semantic", "interleaved")
            _print(run, json.dumps({name: getattr(tokens, name).tolist() for name in names}))
        else:
            _print(run, " ".join(str(token) for token in tokens.interleaved.tolist()))


@app.command()
def resynthesize(  # noqa: PLR0913 - every parameter is an option of the command line
    recording: Annotated[Path, typer.Argument(help="Speech to pass through the codec.")],
    output: Output,
    *,
    voice: VoiceName = None,
    speed: Speed = 1.0,
    volume: Volume = 1.0,
    rate: Rate = None,
    seed: Seed = None,
    checkpoints: Checkpoints = None,
    threads: Threads = None,
) -> None:
    """Turn a recording into tokens and back, to hear what the codec keeps."""
    with _run(checkpoints=checkpoints, seed=seed, threads=threads, voice=voice) as run:
        options = run.speech_options(speed=speed, volume=volume, rate=rate)
        with OutputFile(output) as file:
            spoken = run.pipeline.resynthesize(read_audio(recording), options)
            file.write(spoken.speech)
        _print_speech(run, output, spoken)


@contextmanager
def _run(**overrides: object) -> Iterator[_Run]:
    """Set up one run, show its progress, and turn a failure into one line and an exit code."""
    progress = Console(stderr=True)
    try:
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
    except StepAudioError as error:
        typer.echo(f"stepaudio: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(_exit_code(error)) from error


def _exit_code(error: StepAudioError) -> int:
    if isinstance(error, InvalidInputError | VoiceNotFoundError):
        return _REQUEST_IS_WRONG
    return _CHECKPOINT_IS_WRONG if isinstance(error, CheckpointError) else _FAILED


def _print(run: _Run, line: str) -> None:
    run.progress.stop()
    run.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _print_speech(run: _Run, output: Path, spoken: Spoken) -> None:
    retries = sum(clause.attempts - 1 for clause in spoken.speech.clauses)
    again = f", {retries} more {'try' if retries == 1 else 'tries'} needed" if retries else ""
    _print(run, f"wav:      {output} ({spoken.speech.duration_s:.2f} s at {spoken.speech.sample_rate_hz} Hz{again})")
    run.console.print()
    run.console.print(time_table(spoken.times, run.pipeline.rooms.loading.times({})))
