"""Files in every format, and every way a file can be no audio."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from numpy.typing import NDArray

from services.shared.audio.files import read_audio, write_wav
from services.shared.errors import EmptyAudioError, NonFiniteAudioError, UnreadableAudioError

pytestmark = pytest.mark.unit

RATE_HZ = 16_000


def tone(rate_hz: int = RATE_HZ) -> NDArray[np.float32]:
    """One second."""
    return np.asarray(0.4 * np.sin(np.arange(rate_hz) * (2 * np.pi * 440 / rate_hz)), np.float32)


@pytest.mark.parametrize(("suffix", "tolerance"), [("wav", 4e-5), ("flac", 4e-5), ("ogg", 0.05), ("mp3", 0.05)])
def test_each_format_is_read_at_its_own_rate(tmp_path: Path, suffix: str, tolerance: float) -> None:
    path = tmp_path / f"tone.{suffix}"
    sf.write(path, tone(rate_hz=24_000), 24_000)
    audio = read_audio(path)
    assert audio.sample_rate_hz == 24_000
    assert audio.duration_s == pytest.approx(1.0, abs=0.05)
    middle = slice(8000, 16_000)
    assert np.abs(audio.samples[middle] - tone(rate_hz=24_000)[middle]).max() < tolerance


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "PCM_U8"])
def test_each_sample_format_of_wav_is_read(tmp_path: Path, subtype: str) -> None:
    sf.write(tmp_path / "a.wav", tone(), 8000, subtype=subtype)
    assert np.abs(read_audio(tmp_path / "a.wav").samples - tone()).max() < 1e-2


def test_channels_of_any_count_are_averaged(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.stack([tone(), -tone(), tone(), tone(), tone()], axis=1), RATE_HZ, subtype="FLOAT")
    assert np.abs(read_audio(tmp_path / "a.wav").samples - 0.6 * tone()).max() < 1e-6


def test_written_samples_come_back_and_overshoot_is_clipped(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", 3.0 * tone(), RATE_HZ)
    audio = read_audio(str(tmp_path / "a.wav"))
    assert np.abs(audio.samples - np.clip(3.0 * tone(), -1, 1)).max() < 4e-5
    assert sf.info(tmp_path / "a.wav").subtype == "PCM_16"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableAudioError, match="nowhere"):
        write_wav(tmp_path / "nowhere" / "a.wav", tone(), RATE_HZ)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"this is no audio at all, but text"])
def test_what_is_no_audio_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.wav").write_bytes(content)
    with pytest.raises(UnreadableAudioError, match=r"bad\.wav"):
        read_audio(tmp_path / "bad.wav")


def test_an_absent_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableAudioError, match=r"gone\.wav is not a file"):
        read_audio(tmp_path / "gone.wav")
    with pytest.raises(UnreadableAudioError, match="is not a file"):
        read_audio(tmp_path)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut.{suffix}"
    sf.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 5 * RATE_HZ), RATE_HZ)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UnreadableAudioError, match=rf"cut\.{suffix}"):
        read_audio(path)


def test_a_wav_recorded_into_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "pipe.wav"
    sf.write(path, tone(), RATE_HZ, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(content))
    assert len(read_audio(path).samples) == RATE_HZ


def test_a_sound_file_without_samples_is_empty(tmp_path: Path) -> None:
    sf.write(tmp_path / "none.wav", np.zeros(0, np.float32), RATE_HZ)
    with pytest.raises(EmptyAudioError, match=r"none\.wav"):
        read_audio(tmp_path / "none.wav")


def test_a_float_file_with_nan_is_refused(tmp_path: Path) -> None:
    sf.write(tmp_path / "nan.wav", np.array([0.0, np.nan], np.float32), RATE_HZ, subtype="FLOAT")
    with pytest.raises(NonFiniteAudioError, match=r"nan\.wav"):
        read_audio(tmp_path / "nan.wav")
