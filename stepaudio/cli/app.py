"""The commands and their options: asks, talks, speaks, clones, transcribes, tokenizes, resynthesizes.

    --server ADDRESS      over the API; STEPAUDIO_SERVER says the same once for all
    without it            the rooms run in this process, and torch is imported only then

Results go to standard output, progress and errors to standard error, progress only on a terminal. Exit codes are in
failures.py, credentials and TLS in settings.py.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from protos.gen.stepaudio.v1 import voice_pb2
from services.shared.errors import InvalidInputError, InvalidOptionError
from stepaudio.cli import online
from stepaudio.cli.failures import failures_as_exit_codes
from stepaudio.cli.online import ReplyChoices
from stepaudio.cli.settings import read_server
from stepaudio.cli.talk import Script
from stepaudio.cli.talk import talk as hold_conversation
from stepaudio.errors import ClientError
from stepaudio.server import Server

app = typer.Typer(
    name="stepaudio",
    help="Speech to speech with Step-Audio: over the API with --server, or with the rooms in this process.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # local values are audio and text of the user
)

ServerAddress = Annotated[
    str | None,
    typer.Option("--server", help="host:port of the API, grpcs://host:port for TLS; STEPAUDIO_SERVER if left out."),
]
Checkpoints = Annotated[
    Path | None, typer.Option(help="Without a server: folder of the three public folders; nano if left out.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="The wav file to write.")]
VoiceName = Annotated[str | None, typer.Option("--voice", help="Who speaks; the first voice if left out.")]
Speed = Annotated[float, typer.Option(help="Tempo, pitch kept: 2 is twice as fast; 0.25 to 4.")]
Volume = Annotated[float, typer.Option(help="Amplitude: 2 is twice as loud; 0 to 10.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same speech.")]
SpeechTemperature = Annotated[
    float | None, typer.Option(help="Without a server: of the speech; lower is plainer and slips less.")
]
Rate = Annotated[int | None, typer.Option(help="Output sample rate in Hz; 22050 if left out.")]
Threads = Annotated[int | None, typer.Option(help="Without a server: threads of every network; 1 if left out.")]
System = Annotated[str | None, typer.Option(help="System prompt of the conversation; '' for none.")]
Temperature = Annotated[float | None, typer.Option(help="Of the answer's words; 0 is the likeliest.")]


@app.command()
def talk(  # noqa: PLR0913 - every parameter is an option of the command line
    recordings: Annotated[list[Path] | None, typer.Argument(help="Recordings, one turn each.")] = None,
    *,
    text: Annotated[list[str] | None, typer.Option(help="A written turn; may be given several times.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The wav file to write; the loudspeaker if left out.")
    ] = None,
    fast: Annotated[bool, typer.Option(help="As fast as the API permits, not in real time.")] = False,
    greeting: Annotated[str, typer.Option(help="What the agent says first.")] = "",
    system: System = None,
    temperature: Temperature = None,
    voice: VoiceName = None,
    speed: Speed = 1.0,
    volume: Volume = 1.0,
    rate: Rate = None,
    seed: Seed = None,
    server: ServerAddress = None,
) -> None:
    """Hold a conversation: by microphone until Ctrl-C, or by recordings and written turns; print its events."""
    with failures_as_exit_codes():
        where = read_server(server)
        if where is None:
            raise InvalidOptionError("a conversation needs a server: give --server host:port")
        choices = ReplyChoices(voice, speed, volume, seed, rate, system, temperature)
        start = choices.session_start()
        start.greeting = greeting
        script = Script(recordings=tuple(recordings or ()), texts=tuple(text or ()), fast=fast)
        asyncio.run(hold_conversation(where, start, script, output=output, tell=typer.echo))


@app.command()
def ask(  # noqa: PLR0913 - every parameter is an option of the command line
    output: Output,
    question: Annotated[Path | None, typer.Argument(help="The recorded question.", show_default=False)] = None,
    text: Annotated[str | None, typer.Option(help="A written question instead of a recorded one.")] = None,
    *,
    system: System = None,
    temperature: Temperature = None,
    voice: VoiceName = None,
    speed: Speed = 1.0,
    volume: Volume = 1.0,
    rate: Rate = None,
    seed: Seed = None,
    speech_temperature: SpeechTemperature = None,
    checkpoints: Checkpoints = None,
    threads: Threads = None,
    server: ServerAddress = None,
) -> None:
    """Answer a spoken or written question by voice."""
    rooms = {"checkpoints": checkpoints, "threads": threads, "speech_temperature": speech_temperature}
    with failures_as_exit_codes():
        if (where := _server(server, rooms)) is not None:
            if question is not None and text is None:
                asked: Path | str = question
            elif question is None and text is not None:
                asked = text
            else:
                raise InvalidInputError("give a recorded question or --text, one of the two")
            choices = ReplyChoices(voice, speed, volume, seed, rate, system, temperature)
            asyncio.run(online.ask(where, output, asked, choices))
            return
        with _rooms_of_this_machine():
            from services.offline import cli as offline

            chosen = {**rooms, "system": system, "temperature": temperature, "voice": voice, "seed": seed}
            offline.ask(output, question, text, offline.Effects(speed, volume, rate), chosen)


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
    server: ServerAddress = None,
) -> None:
    """Speak a text."""
    rooms = {"checkpoints": checkpoints, "threads": threads, "speech_temperature": speech_temperature}
    with failures_as_exit_codes():
        if (where := _server(server, rooms)) is not None:
            asyncio.run(online.say(where, output, text, ReplyChoices(voice, speed, volume, seed, rate)))
            return
        with _rooms_of_this_machine():
            from services.offline import cli as offline

            offline.say(text, output, offline.Effects(speed, volume, rate), {**rooms, "voice": voice, "seed": seed})


@app.command()
def clone(  # noqa: PLR0913 - every parameter is an option of the command line
    clip: Annotated[Path, typer.Argument(help="A recording of the voice, 0.5 to 30 s.")],
    text: Annotated[str, typer.Argument(help="What to say.")],
    output: Output,
    clip_text: Annotated[str, typer.Option(help="What the recording says.")],
    *,
    speaker: Annotated[str | None, typer.Option(help="With a server: whose voice it is, who agrees.")] = None,
    consent_record: Annotated[
        str | None, typer.Option(help="With a server: where the agreement is kept; your own voice if left out.")
    ] = None,
    speed: Speed = 1.0,
    volume: Volume = 1.0,
    rate: Rate = None,
    seed: Seed = None,
    speech_temperature: SpeechTemperature = None,
    checkpoints: Checkpoints = None,
    threads: Threads = None,
    server: ServerAddress = None,
) -> None:
    """Speak a text in the voice of a recording."""
    rooms = {"checkpoints": checkpoints, "threads": threads, "speech_temperature": speech_temperature}
    with failures_as_exit_codes():
        if (where := _server(server, rooms)) is not None:
            consent = _consent(speaker, consent_record)
            choices = ReplyChoices(speed=speed, volume=volume, seed=seed, rate_hz=rate)
            asyncio.run(online.clone(where, output, text, choices, clip=clip, clip_text=clip_text, consent=consent))
            return
        with _rooms_of_this_machine():
            from services.offline import cli as offline

            effects = offline.Effects(speed, volume, rate)
            offline.clone(clip, clip_text, text, output, effects=effects, settings={**rooms, "seed": seed})


@app.command()
def transcribe(
    recording: Annotated[Path, typer.Argument(help="Speech to write down.")],
    *,
    checkpoints: Checkpoints = None,
    threads: Threads = None,
    server: ServerAddress = None,
) -> None:
    """Write down what a recording says."""
    rooms = {"checkpoints": checkpoints, "threads": threads}
    with failures_as_exit_codes():
        if (where := _server(server, rooms)) is not None:
            asyncio.run(online.transcribe(where, recording))
            return
        with _rooms_of_this_machine():
            from services.offline import cli as offline

            offline.transcribe(recording, rooms)


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
    with failures_as_exit_codes(), _rooms_of_this_machine():
        from services.offline import cli as offline

        offline.tokenize(recording, {"checkpoints": checkpoints, "threads": threads}, as_json=as_json)


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
    with failures_as_exit_codes(), _rooms_of_this_machine():
        from services.offline import cli as offline

        settings = {"checkpoints": checkpoints, "threads": threads, "voice": voice, "seed": seed}
        offline.resynthesize(recording, output, offline.Effects(speed, volume, rate), settings)


def _server(address: str | None, rooms: Mapping[str, object]) -> Server | None:
    """The server to speak to; options of rooms in this process do not go together with one."""
    server = read_server(address)
    given = [f"--{name.replace('_', '-')}" for name, value in rooms.items() if value is not None]
    if server is not None and given:
        raise InvalidOptionError(
            f"{', '.join(given)} cannot be chosen for a server's rooms; leave out that or --server"
        )
    return server


def _consent(speaker: str | None, record: str | None) -> voice_pb2.VoiceConsent:
    if speaker is None:
        raise InvalidOptionError("a server makes no voice without agreement: give --speaker, the one who agrees")
    basis = voice_pb2.CONSENT_BASIS_OWN_VOICE if record is None else voice_pb2.CONSENT_BASIS_SPEAKER_AGREED
    now = Timestamp()
    now.FromDatetime(datetime.now(UTC))
    return voice_pb2.VoiceConsent(basis=basis, speaker_name=speaker, record=record or "", consent_time=now)


@contextmanager
def _rooms_of_this_machine() -> Iterator[None]:
    """Say what to do where the packages of the rooms are not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ClientError(
            f"the rooms cannot run here, {error.name} is not installed: install 'stepaudio[cli]', or give --server"
        ) from error
