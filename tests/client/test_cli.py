"""The command line over the API, against a scripted server in a thread of its own."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile as sf
from typer.testing import CliRunner, Result

from protos.gen.stepaudio.v1 import events_pb2, metrics_pb2, speech_pb2, turn_taking_pb2, voice_pb2
from stepaudio.cli import app
from tests.client.test_client import spoken
from tests.fakes.server import Failure, ScriptedServer, ScriptedStream, tone

pytestmark = pytest.mark.unit

Serve = Callable[[ScriptedServer], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a scripted server beside the command, which has a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    started: list[ScriptedServer] = []

    def start(server: ScriptedServer) -> str:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
        started.append(server)
        return server.address

    yield start
    for server in started:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def question(tmp_path: Path) -> Path:
    sf.write(tmp_path / "question.wav", 0.1 * np.ones(8000), 16000)
    return tmp_path / "question.wav"


def stepaudio(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_refused(result: Result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    line = result.stderr.strip()
    assert line.startswith("stepaudio: ")
    assert "\n" not in line
    for word in words:
        assert word in line


def written(path: Path) -> bytes:
    samples, _ = sf.read(path, dtype="int16")
    data: bytes = samples.tobytes()
    return data


async def answer(stream: ScriptedStream) -> None:
    start = await stream.start_session()
    assert start.options.turn_taking.mode == turn_taking_pb2.ENDPOINTING_MODE_MANUAL
    await stream.receive("end_of_input")
    await stream.begin_reply(1)
    await stream.send_audio(1, 0, tone(20000))
    metrics = metrics_pb2.TurnMetrics(
        time_to_first_audio_ms=30, breakdown=metrics_pb2.FirstAudioBreakdown(lm_ms=10, vocoder_ms=20)
    )
    await stream.end_reply(1, 20000, user_text="Does it rain?", agent_text="It rains.", metrics=metrics)


@pytest.mark.parametrize("form", ["recording", "text"])
def test_ask_writes_the_reply_as_it_was_sent(serve: Serve, tmp_path: Path, question: Path, form: str) -> None:
    server = ScriptedServer(answer)
    asked = (question,) if form == "recording" else ("--text", "Does it rain?")

    result = stepaudio("ask", *asked, "-o", tmp_path / "a.wav", "--server", serve(server))

    assert result.exit_code == 0, result.output
    assert written(tmp_path / "a.wav") == tone(20000)
    assert "answered: It rains." in result.stdout
    assert ("heard:    Does it rain?" in result.stdout) == (form == "recording")
    assert "first audio after 30 ms = endpointing 0 + tokenizer 0 + lm 10" in result.stdout
    assert result.stderr == ""


def test_ask_without_an_answer_leaves_no_file(serve: Serve, tmp_path: Path, question: Path) -> None:
    async def nothing(stream: ScriptedStream) -> None:
        await stream.start_session()
        await stream.receive("end_of_input")

    address = serve(ScriptedServer(nothing))
    assert_refused(stepaudio("ask", question, "-o", tmp_path / "a.wav", "--server", address), 2, "no speech")
    assert [path.name for path in tmp_path.iterdir()] == ["question.wav"]


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failure(grpc.StatusCode.NOT_FOUND, "VOICE_NOT_FOUND"), 2),
        (Failure(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"), 2),
        (Failure(grpc.StatusCode.FAILED_PRECONDITION, "MISSING_FILE"), 3),
        (Failure(grpc.StatusCode.INTERNAL, "INTERNAL"), 1),
    ],
)
def test_a_failure_is_one_line_and_an_exit_code(serve: Serve, tmp_path: Path, failure: Failure, code: int) -> None:
    address = serve(ScriptedServer(answers={"Synthesize": [failure]}))
    assert_refused(stepaudio("say", "Hello.", "-o", tmp_path / "a.wav", "--server", address), code, failure.reason)
    assert not list(tmp_path.iterdir())


def test_say_writes_the_speech_as_it_was_sent(serve: Serve, tmp_path: Path) -> None:
    finished = speech_pb2.SynthesizeResponse(finished=speech_pb2.SynthesisFinished(time_to_first_audio_ms=40))
    server = ScriptedServer(answers={"Synthesize": [[spoken(tone(700)), spoken(tone(300)), finished]]})

    result = stepaudio("say", "Hello.", "--voice", "Nano", "-o", tmp_path / "a.wav", "--server", serve(server))

    assert result.exit_code == 0, result.output
    assert written(tmp_path / "a.wav") == tone(700) + tone(300)
    request: Any = server.calls[0][1][0]
    assert (request.text, request.voice.voice_id, request.audio.sample_rate_hz) == ("Hello.", "Nano", 22050)
    assert "first audio after 40 ms" in result.stdout


def test_clone_makes_a_voice_speaks_with_it_and_deletes_it(serve: Serve, tmp_path: Path, question: Path) -> None:
    answers: dict[str, list[Any]] = {
        "CreateVoice": [voice_pb2.CreateVoiceResponse(voice=voice_pb2.Voice(voice_id="mine"))],
        "Synthesize": [[spoken(tone(700))]],
        "DeleteVoice": [voice_pb2.DeleteVoiceResponse()],
    }
    server = ScriptedServer(answers=answers)
    clone = ("clone", question, "Hello.", "--clip-text", "Hm.", "-o", tmp_path / "a.wav", "--server", serve(server))

    assert_refused(stepaudio(*clone), 2, "--speaker")
    result = stepaudio(*clone, "--speaker", "Ann")

    assert result.exit_code == 0, result.output
    assert [method for method, _ in server.calls] == ["CreateVoice", "Synthesize", "DeleteVoice"]
    request: Any = server.calls[0][1][0]
    assert request.consent.basis == voice_pb2.CONSENT_BASIS_OWN_VOICE
    assert request.clip.data == question.read_bytes()


def test_transcribe_prints_each_utterance(serve: Serve, question: Path) -> None:
    said = [
        speech_pb2.TranscribeResponse(transcript=speech_pb2.TranscribedSpeech(text=text, is_final=is_final))
        for text, is_final in (("Does", False), ("Does it rain?", True), ("Yes.", True))
    ]
    result = stepaudio("transcribe", question, "--server", serve(ScriptedServer(answers={"Transcribe": [said]})))
    assert (result.exit_code, result.stdout) == (0, "Does it rain?\nYes.\n")


def test_talk_speaks_turn_after_turn_and_prints_the_events(serve: Serve, tmp_path: Path, question: Path) -> None:
    async def script(stream: ScriptedStream) -> None:
        await stream.start_session()
        await stream.receive("end_of_turn")
        await stream.send(turn=1, speech_started=events_pb2.SpeechStarted(first_sample=1600))
        await stream.begin_reply(1)
        await stream.send_audio(1, 0, tone(2000))
        await stream.send_audio(1, 2000, tone(2000))
        await stream.end_reply(1, 4000)
        turn = await stream.receive("text_turn")
        assert turn.text == "And now?"
        await stream.begin_reply(2, turn.request_id)
        await stream.send_audio(2, 0, tone(500))
        await stream.end_reply(2, 500)
        await stream.receive("end_of_input")

    address = serve(ScriptedServer(script))
    reply = tmp_path / "a.wav"

    result = stepaudio("talk", question, "--text", "And now?", "--fast", "-o", reply, "--server", address)

    assert result.exit_code == 0, result.output
    assert written(reply) == tone(2000) + tone(2000) + tone(500)
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["time", "s", "event", "turn", "epoch", "detail"]
    assert [line.split()[1] for line in lines[1:-1]] == [
        "session_started", "speech_started",
        "reply_started", "reply_text", "reply_audio", "reply_ended", "turn_ended",
        "reply_started", "reply_text", "reply_audio", "reply_ended", "turn_ended",
    ]  # fmt: skip
    assert lines[2].split() == ["0.000", "speech_started", "1", "1", "at", "0.10", "s"]


def test_talk_in_real_time_sends_silence_until_the_turn_has_ended(serve: Serve, tmp_path: Path) -> None:
    sf.write(tmp_path / "short.wav", 0.1 * np.ones(1600), 16000)

    async def script(stream: ScriptedStream) -> None:
        await stream.start_session()
        await stream.receive_audio(4000)
        await stream.begin_reply(1)
        await stream.send_audio(1, 0, tone(2000))
        await stream.end_reply(1, 2000)
        await stream.receive("end_of_input")

    server = ScriptedServer(script)
    address = serve(server)
    result = stepaudio("talk", tmp_path / "short.wav", "-o", tmp_path / "a.wav", "--server", address)

    assert result.exit_code == 0, result.output
    assert written(tmp_path / "a.wav") == tone(2000)
    audio = b"".join(message.audio.data for message in server.streams[0].received)
    assert any(audio[:3200])
    assert not any(audio[3200:])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("talk", "--text", "Hello."), "--server host:port"),
        (("talk", "--text", "Hello.", "--server", "nowhere"), "no address"),
        (("ask", "--server", "127.0.0.1:1", "-o", "a.wav"), "one of the two"),
        (("say", "Hello.", "--server", "127.0.0.1:1", "--threads", "2", "-o", "a.wav"), "--threads"),
        (("say", "Hello.", "--server", "127.0.0.1:1", "-o", "a.mp3"), "must end in .wav"),
        (("say", "Hello.", "--server", "127.0.0.1:1", "--rate", "100", "-o", "a.wav"), "8000 to 48000"),
    ],
)
def test_a_wrong_command_is_refused_before_anything_is_sent(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(stepaudio(*arguments), 2, words)
    assert not list(tmp_path.iterdir())


def test_without_the_rooms_packages_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("services.offline")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert_refused(stepaudio("say", "Hello.", "-o", tmp_path / "a.wav"), 1, "torch", "stepaudio[cli]", "--server")
