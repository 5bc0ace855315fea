"""The commands over the API: ask, say, clone, transcribe. Each shows what the server is doing while it does it."""

from collections.abc import AsyncIterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protos.gen.stepaudio.v1 import (
    conversation_pb2,
    events_pb2,
    options_pb2,
    speech_pb2,
    turn_taking_pb2,
    voice_pb2,
)
from services.shared.audio.files import read_audio
from services.shared.errors import EmptyAudioError
from stepaudio.cli.progress import Progress
from stepaudio.client import Client
from stepaudio.conversation import Conversation
from stepaudio.errors import ApiError, ClientError
from stepaudio.formats import decode, pcm16
from stepaudio.players import WavPlayer
from stepaudio.server import Server
from stepaudio.sources import read_speech
from stepaudio.stream import DEFAULT_INPUT_RATE_HZ
from stepaudio.timeline import breakdown

DEFAULT_RATE_HZ: Final = 22050
"""The rate at which replies are made: nothing is resampled."""


@dataclass(frozen=True, slots=True)
class ReplyChoices:
    """What the command line may choose about a reply; None leaves it to the server.

    Attributes:
        voice: who speaks.
        speed, volume: ratios.
        seed: of text and speech.
        rate_hz: output sample rate.
        system: system prompt.
        temperature: of the words.
    """

    voice: str | None = None
    speed: float | None = None
    volume: float | None = None
    seed: int | None = None
    rate_hz: int | None = None
    system: str | None = None
    temperature: float | None = None

    @property
    def output_hz(self) -> int:
        """Sample rate of what is written."""
        return self.rate_hz if self.rate_hz is not None else DEFAULT_RATE_HZ

    def voice_options(self) -> options_pb2.VoiceOptions:
        """Who speaks, and how."""
        return options_pb2.VoiceOptions(voice_id=self.voice, speed=self.speed, volume=self.volume, seed=self.seed)

    def session_start(self) -> conversation_pb2.SessionStart:
        """The beginning of a conversation with these choices."""
        options = options_pb2.SessionOptions(
            voice=self.voice_options(),
            generation=options_pb2.GenerationOptions(temperature=self.temperature, seed=self.seed),
            system_prompt=self.system,
        )
        return conversation_pb2.SessionStart(reply_audio=pcm16(self.output_hz), options=options)


async def ask(server: Server, output: Path, question: Path | str, choices: ReplyChoices) -> None:
    """Ask one question and write the answer.

    Args:
        server: where.
        output: the wav file to write.
        question: a recording's path, or the words.
        choices: about the reply.

    Raises:
        StepAudioError, ClientError: the request is wrong, or the server failed.
    """
    start = choices.session_start()
    # The whole recording is one question, whatever pauses it has.
    start.options.turn_taking.mode = turn_taking_pb2.ENDPOINTING_MODE_MANUAL
    speech = read_speech(question, DEFAULT_INPUT_RATE_HZ) if isinstance(question, Path) else None
    ended: list[events_pb2.TurnEnded] = []
    with Progress() as progress, WavPlayer(output, choices.output_hz, clock=None) as player:
        async with Conversation(server, start, player=player) as conversation:
            progress.update("listening")
            if speech is not None:
                await conversation.send_audio(speech)
            else:
                await conversation.send_text(str(question))
            await conversation.end_input()
            async for event in conversation:
                progress.update(_step(event, player))
                if event.HasField("turn_ended"):
                    ended.append(event.turn_ended)
                elif event.HasField("error"):
                    raise ApiError.from_status(event.error.status)
        _check_answered(ended, question)
        for turn in ended:
            if isinstance(question, Path):
                progress.print(f"heard:    {turn.record.user_text}")
            progress.print(f"answered: {turn.record.agent_text}")
    _print_wav(progress, output, player)
    for turn in ended:
        if took := breakdown(turn.record.metrics):
            progress.print(f"time:     {took}")


async def say(server: Server, output: Path, text: str, choices: ReplyChoices) -> None:
    """Speak a text. Arguments and errors as `ask`."""
    with Progress() as progress:
        async with Client(server) as client:
            await _speak(client, output, text, choices, progress)


async def clone(
    server: Server,
    output: Path,
    text: str,
    choices: ReplyChoices,
    *,
    clip: Path,
    clip_text: str,
    consent: voice_pb2.VoiceConsent,
) -> None:
    """Speak a text in the voice of a recording; the voice is deleted afterwards. Raises as `ask`."""
    read_audio(clip)  # what is no audio is refused before it is sent
    with Progress() as progress:
        async with Client(server) as client:
            progress.update("making the voice")
            voice = await client.create_voice(clip.read_bytes(), clip_text, consent, display_name=clip.stem[:64])
            try:
                await _speak(client, output, text, choices, progress, voice_id=voice.voice_id)
            finally:
                await client.delete_voice(voice.voice_id)


async def transcribe(server: Server, recording: Path) -> None:
    """Write down a recording, a line for each final utterance. Raises as `ask`, and EmptyAudioError without speech."""
    speech = read_speech(recording, DEFAULT_INPUT_RATE_HZ)
    config = speech_pb2.TranscribeConfig(partial_transcripts=True)
    has_words = False
    with Progress() as progress:
        async with Client(server) as client:
            async for part in client.transcribe(speech, config):
                if not part.HasField("transcript"):
                    continue
                if part.transcript.is_final:
                    progress.print(part.transcript.text)
                    has_words = True
                else:
                    progress.update(part.transcript.text)
    if not has_words:
        raise EmptyAudioError(f"{recording}: no speech was heard")


async def _speak(
    client: Client,
    output: Path,
    text: str,
    choices: ReplyChoices,
    progress: Progress,
    *,
    voice_id: str | None = None,
) -> None:
    audio = pcm16(choices.output_hz)
    voice = choices.voice_options()
    if voice_id is not None:
        voice.voice_id = voice_id
    progress.update("speaking")
    first_audio_ms = 0
    with WavPlayer(output, choices.output_hz, clock=None) as player:
        parts: AsyncIterable[speech_pb2.SynthesizeResponse] = client.synthesize(text, voice=voice, audio=audio)
        async for part in parts:
            if part.HasField("audio"):
                player.write(decode(part.audio.audio.data, audio))
                progress.update(f"speaking: {player.written_samples / choices.output_hz:.1f} s")
            elif part.HasField("finished"):
                first_audio_ms = part.finished.time_to_first_audio_ms
    _print_wav(progress, output, player)
    progress.print(f"time:     first audio after {first_audio_ms} ms")


def _check_answered(ended: list[events_pb2.TurnEnded], question: Path | str) -> None:
    for turn in ended:
        if turn.HasField("error"):
            raise ApiError.from_status(turn.error)
    if not ended:
        raise EmptyAudioError(f"{question}: no speech was heard, and so nothing answered")


def _step(event: conversation_pb2.ConverseResponse, player: WavPlayer) -> str:
    match event.WhichOneof("event"):
        case "reply_audio":
            return f"speaking: {player.written_samples / player.sample_rate_hz:.1f} s"
        case "speech_started" | "session_started":
            return "listening"
    return "thinking" if not player.written_samples else "speaking"


def _print_wav(progress: Progress, output: Path, player: WavPlayer) -> None:
    if not player.written_samples:
        raise ClientError("the server sent no speech")
    duration_s = player.written_samples / player.sample_rate_hz
    progress.print(f"wav:      {output} ({duration_s:.2f} s at {player.sample_rate_hz} Hz)")
