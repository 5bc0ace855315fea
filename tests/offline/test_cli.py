"""The command line on the nano checkpoint: right answers, and for every wrong input one line and an exit code."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from typer.testing import Result

from services.offline.settings import NANO_CHECKPOINTS
from services.shared.audio.files import read_audio
from services.shared.audio.resample import resample
from services.shared.codec import deinterleave
from services.shared.paths import CHAT_FOLDER, SPEAKERS_FOLDER, TOKENIZER_FOLDER, TTS_FOLDER, VOCODER_FOLDER
from tests.conftest import ROOT
from tests.offline.conftest import Command

pytestmark = pytest.mark.integration

QUESTIONS = ROOT / "benchmarks" / "data" / "nano_questions" / "wav"
QUESTION = QUESTIONS / "heldout_16.wav"  # Tell me the capital of Egypt.
GREETING = QUESTIONS / "demo_03.wav"  # Hello.


def loud_part(path: Path) -> float:
    """Peak of a written file, after checking that it is a finite, sensible one."""
    audio = read_audio(path)
    assert np.isfinite(audio.samples).all()
    return float(np.abs(audio.samples).max())


def assert_refused(result: Result, code: int, *words: str) -> None:
    """One line on standard error, this exit code, no traceback, nothing on standard output."""
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    line = result.stderr.strip()
    assert line.startswith("stepaudio: ")
    assert "\n" not in line
    for word in words:
        assert word in line


# Right answers.


def test_bfloat16_speaks_much_the_same_with_other_rounding(
    stepaudio: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say = ("say", "The capital of Egypt is Cairo.", "--speech-temperature", 0, "-o")
    assert stepaudio(*say, tmp_path / "full.wav").exit_code == 0
    monkeypatch.setenv("STEPAUDIO_DTYPE", "bfloat16")
    assert stepaudio(*say, tmp_path / "half.wav").exit_code == 0

    full, half = (read_audio(tmp_path / name) for name in ("full.wav", "half.wav"))
    assert not np.array_equal(full.samples, half.samples)
    assert abs(full.duration_s - half.duration_s) < 0.5


def test_ask_answers_a_spoken_question_by_voice(stepaudio: Command, tmp_path: Path) -> None:
    reply = tmp_path / "new" / "folder" / "reply.wav"

    result = stepaudio("ask", QUESTION, "-o", reply, "--temperature", 0)

    assert result.exit_code == 0, result.output
    assert "heard:    Tell me the capital of Egypt." in result.stdout
    assert "answered: The capital of Egypt is Cairo." in result.stdout
    assert f"wav:      {reply}" in result.stdout
    assert all(room in result.stdout for room in ("tokenizer", "chat", "transcript", "tts", "vocoder", "RTF"))
    assert result.stderr == ""
    info = sf.info(reply)
    assert (info.samplerate, info.channels, info.subtype) == (22050, 1, "PCM_16")
    assert 1.0 < info.duration < 6.0
    assert loud_part(reply) > 0.1
    assert os.listdir(reply.parent) == ["reply.wav"]


def test_ask_answers_a_written_question(stepaudio: Command, tmp_path: Path) -> None:
    result = stepaudio("ask", "--text", "What is the capital of Egypt?", "-o", tmp_path / "a.wav", "--temperature", 0)

    assert result.exit_code == 0, result.output
    assert "heard" not in result.stdout
    assert "answered: " in result.stdout
    assert loud_part(tmp_path / "a.wav") > 0.1


def test_the_same_seed_says_the_same_and_another_seed_does_not(stepaudio: Command, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        result = stepaudio("say", "Hello.", "-o", tmp_path / f"{name}.wav", "--seed", seed)
        assert result.exit_code == 0, result.output
    a, b, c = ((tmp_path / f"{name}.wav").read_bytes() for name in "abc")
    assert a == b != c


def test_speed_volume_and_rate_change_what_they_name(stepaudio: Command, tmp_path: Path) -> None:
    plain, changed = tmp_path / "plain.wav", tmp_path / "changed.wav"
    options = ("--speed", 2, "--volume", 0.5, "--rate", 16000)

    assert stepaudio("say", "Hello.", "-o", plain).exit_code == 0
    assert stepaudio("say", "Hello.", "-o", changed, *options).exit_code == 0

    assert sf.info(changed).samplerate == 16000
    assert sf.info(changed).duration == pytest.approx(sf.info(plain).duration / 2, rel=0.1)
    assert 0.2 < loud_part(changed) / loud_part(plain) < 0.8


def test_long_text_is_spoken_clause_by_clause(stepaudio: Command, tmp_path: Path) -> None:
    text = "The capital of Canada is Ottawa. " * 3

    result = stepaudio("say", text, "-o", tmp_path / "a.wav", "--voice", "Tingting")

    assert result.exit_code == 0, result.output
    assert sf.info(tmp_path / "a.wav").duration > 3


def test_clone_speaks_in_the_voice_of_a_clip(stepaudio: Command, tmp_path: Path) -> None:
    clip = NANO_CHECKPOINTS / TTS_FOLDER / SPEAKERS_FOLDER / "Nano_prompt.wav"

    result = stepaudio("clone", clip, "--clip-text", "My name is Nano.", "Hello.", "-o", tmp_path / "a.wav")

    assert result.exit_code == 0, result.output
    assert loud_part(tmp_path / "a.wav") > 0.1


def test_transcribe_prints_the_words_alone(stepaudio: Command) -> None:
    result = stepaudio("transcribe", QUESTION)

    assert (result.exit_code, result.stdout) == (0, "Tell me the capital of Egypt.\n")


def test_tokenize_prints_whole_groups_and_as_json_both_codebooks(stepaudio: Command) -> None:
    plain, as_json = stepaudio("tokenize", GREETING), stepaudio("tokenize", GREETING, "--json")

    tokens = [int(word) for word in plain.stdout.split()]
    content = json.loads(as_json.stdout)
    assert content["interleaved"] == tokens
    linguistic, semantic = deinterleave(tokens)
    assert content["linguistic"][: len(linguistic)] == linguistic.tolist()
    assert content["semantic"][: len(semantic)] == semantic.tolist()
    assert len(tokens) / 41.67 == pytest.approx(sf.info(GREETING).duration, abs=0.2)


def test_resynthesize_keeps_the_length(stepaudio: Command, tmp_path: Path) -> None:
    result = stepaudio("resynthesize", QUESTION, "-o", tmp_path / "a.wav")

    assert result.exit_code == 0, result.output
    assert sf.info(tmp_path / "a.wav").duration == pytest.approx(sf.info(QUESTION).duration, abs=0.25)


@pytest.mark.parametrize("form", ["8 kHz", "stereo", "24 bit", "48 kHz float", "flac"])
def test_every_form_of_recording_is_heard(stepaudio: Command, tmp_path: Path, form: str) -> None:
    audio = read_audio(QUESTION)
    path = tmp_path / "question.wav"
    match form:
        case "8 kHz":
            sf.write(path, resample(audio.samples, audio.sample_rate_hz, 8000), 8000)
        case "stereo":
            sf.write(path, np.stack([audio.samples, audio.samples], axis=1), audio.sample_rate_hz)
        case "24 bit":
            sf.write(path, audio.samples, audio.sample_rate_hz, subtype="PCM_24")
        case "48 kHz float":
            sf.write(path, resample(audio.samples, audio.sample_rate_hz, 48000), 48000, subtype="FLOAT")
        case _:
            path = tmp_path / "question.flac"
            sf.write(path, audio.samples, audio.sample_rate_hz)

    result = stepaudio("transcribe", path)

    assert result.exit_code == 0, result.output
    assert "capital of Egypt" in result.stdout
    assert form == "8 kHz" or result.stdout == "Tell me the capital of Egypt.\n"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noise_is_heard_as_something_and_answered_unless_the_answer_has_no_word(
    stepaudio: Command, tmp_path: Path, seed: int
) -> None:
    noise = 0.2 * np.random.default_rng(seed).standard_normal(24000)
    sf.write(tmp_path / "noise.wav", noise, 16000)

    result = stepaudio("ask", tmp_path / "noise.wav", "-o", tmp_path / "a.wav", "--temperature", 0)

    if result.exit_code:
        assert "the chat model answered nothing that can be spoken: '.'" in result.output
        assert not (tmp_path / "a.wav").exists()
    else:
        assert "answered: " in result.stdout
        assert len(read_audio(tmp_path / "a.wav").samples)


def test_speaking_needs_no_chat_model(stepaudio: Command, tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    shutil.copytree(NANO_CHECKPOINTS, checkpoints, ignore=shutil.ignore_patterns(CHAT_FOLDER), copy_function=os.symlink)

    result = stepaudio("say", "Hello.", "-o", tmp_path / "a.wav", "--checkpoints", checkpoints)

    assert result.exit_code == 0, result.output


# Wrong input.


def write_bad_recording(path: Path, fault: str) -> None:
    samples = read_audio(QUESTION).samples
    match fault:
        case "silent":
            sf.write(path, np.zeros(16000), 16000)
        case "empty":
            sf.write(path, np.zeros(0), 16000)
        case "too short":
            sf.write(path, samples[8000:8800], 16000)
        case "NaN":
            samples[100] = np.nan
            sf.write(path, samples, 16000, subtype="FLOAT")
        case "truncated":
            sf.write(path, samples, 16000)
            path.write_bytes(path.read_bytes()[:9000])
        case "no audio":
            path.write_text("this is a letter, not a recording")
        case "ten minutes":
            sf.write(path, np.resize(samples, 600 * 16000), 16000)
        case "a folder":
            path.mkdir()
        case _:
            assert fault == "absent"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("silent", "silent"),
        ("empty", "no samples"),
        ("too short", "too little"),
        ("NaN", "NaN"),
        ("truncated", "truncated"),
        ("no audio", "not readable"),
        ("ten minutes", "takes at most 92 s"),
        ("a folder", "not a file"),
        ("absent", "not a file"),
    ],
)
@pytest.mark.parametrize("command", ["ask", "transcribe"])
def test_a_recording_that_cannot_be_answered_is_refused(
    stepaudio: Command, tmp_path: Path, command: str, fault: str, words: str
) -> None:
    path = tmp_path / "bad.wav"
    write_bad_recording(path, fault)
    output = ("-o", tmp_path / "out" / "a.wav") if command == "ask" else ()

    assert_refused(stepaudio(command, path, *output), 2, words)
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["say", "Hello.", "--voice", "Nemo"], "known voices: Nano, Tingting"),
        (["ask", "--text", "Hello.", "--voice", "Nemo"], "known voices: Nano, Tingting"),
        (["resynthesize", str(QUESTION), "--voice", "Nemo"], "known voices: Nano, Tingting"),
        (["say", "(RAP)Hello."], "'NanoRAP'"),
        (["say", "…！"], "no speakable character"),
        (["say", ""], "no speakable character"),
        (["ask", "--text", "?!"], "no words"),
        (["ask"], "one of the two"),
        (["ask", str(QUESTION), "--text", "Hello."], "one of the two"),
        (["clone", str(QUESTION), "--clip-text", "…", "Hello."], "transcript"),
        (["say", "Hello.", "--rate", "100"], "8000 to 192000"),
        (["say", "Hello.", "--speed", "5"], "0.25 to 4"),
        (["say", "Hello.", "--speed", "nan"], "0.25 to 4"),
        (["say", "Hello.", "--volume", "-1"], "0 to 10"),
        (["say", "Hello.", "--speech-temperature", "9"], "STEPAUDIO_SPEECH_TEMPERATURE"),
        (["say", "Hello.", "--seed", "-1"], "STEPAUDIO_SEED"),
        (["say", "Hello.", "--threads", "0"], "STEPAUDIO_THREADS"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(
    stepaudio: Command, tmp_path: Path, arguments: list[str], words: str
) -> None:
    assert_refused(stepaudio(*arguments, "-o", tmp_path / "a.wav"), 2, words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "words"), [("a.mp3", "must end in .wav"), ("folder.wav", "is a folder")])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    stepaudio: Command, tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "file").write_text("")

    assert_refused(stepaudio("say", "Hello.", "-o", tmp_path / name), 2, words)
    assert_refused(stepaudio("say", "Hello.", "-o", tmp_path / "file" / "a.wav"), 2, "cannot be written")


def test_a_failure_leaves_the_old_file_as_it_was(stepaudio: Command, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"old")

    assert_refused(stepaudio("say", "…", "-o", tmp_path / "a.wav"), 2)

    assert (tmp_path / "a.wav").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.wav"]


# A checkpoint that cannot be used.


@pytest.mark.parametrize(
    ("arguments", "lost"),
    [
        (["say", "Hello."], f"{TTS_FOLDER}/model.safetensors"),
        (["say", "Hello."], f"{TTS_FOLDER}/{SPEAKERS_FOLDER}/Nano_prompt.wav"),
        (["say", "Hello."], f"{TTS_FOLDER}/{VOCODER_FOLDER}/flow.pt"),
        (["say", "Hello."], f"{TOKENIZER_FOLDER}/linguistic_tokenizer.npy"),
        (["ask", "--text", "Hello."], f"{CHAT_FOLDER}/config.json"),
    ],
)
def test_a_missing_file_of_the_checkpoint_is_named(
    stepaudio: Command, tmp_path: Path, arguments: list[str], lost: str
) -> None:
    checkpoints = tmp_path / "checkpoints"
    shutil.copytree(NANO_CHECKPOINTS, checkpoints, copy_function=os.symlink)
    (checkpoints / lost).unlink()

    result = stepaudio(*arguments, "-o", tmp_path / "a.wav", "--checkpoints", checkpoints)

    assert_refused(result, 3, Path(lost).name)


def test_a_folder_that_is_not_there_is_named(stepaudio: Command, tmp_path: Path) -> None:
    assert_refused(stepaudio("tokenize", QUESTION, "--checkpoints", tmp_path / "none"), 3, "none is not a folder")


def test_a_song_without_the_music_vocoder_says_what_to_download(stepaudio: Command, tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    shutil.copytree(NANO_CHECKPOINTS, checkpoints, copy_function=os.symlink)
    speakers = checkpoints / TTS_FOLDER / SPEAKERS_FOLDER
    (speakers / "speakers_info.json").unlink()
    (speakers / "speakers_info.json").write_text('{"Nano": "My name is Nano.", "NanoRAP": "My name is Nano."}')

    result = stepaudio("say", "(RAP)Hello.", "-o", tmp_path / "a.wav", "--checkpoints", checkpoints)

    assert_refused(result, 3, "CosyVoice-300M-25Hz-Music", "download it or leave out the tag")
