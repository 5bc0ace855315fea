"""Players, the microphone and paced recordings, with scripted clocks and devices in place of real ones."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from stepaudio import DeviceError, Loudspeaker, Microphone, WavPlayer
from stepaudio.devices import Block, Device, open_input, open_output
from stepaudio.formats import Samples
from stepaudio.sources import paced
from tests.client.conftest import run

pytestmark = pytest.mark.unit

RAMP = np.arange(1000, dtype=np.float32) / 32768


class FakeDevice:
    def __init__(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False


def read(path: Path) -> list[int]:
    samples: list[int] = sf.read(path, dtype="int16")[0].tolist()
    return samples


def test_a_paced_wav_player_plays_as_fast_as_a_loudspeaker_and_keeps_what_was_heard(tmp_path: Path) -> None:
    now_s = 5.0
    with WavPlayer(tmp_path / "a.wav", 1000, clock=lambda: now_s) as player:
        now_s = 6.0  # nothing to play yet: silence is not made up for
        player.write(RAMP[:500])
        player.write(RAMP[500:])
        assert player.pending_samples() == 1000
        now_s = 6.6
        assert player.pending_samples() == 400
        player.clear()
        assert player.pending_samples() == 0
        player.write(RAMP[:10])
        now_s = 9.0
        assert player.pending_samples() == 0
    assert read(tmp_path / "a.wav") == [*range(600), *range(10)]


def test_a_wav_player_without_a_clock_plays_at_once(tmp_path: Path) -> None:
    with WavPlayer(tmp_path / "a.wav", 1000, clock=None) as player:
        player.write(RAMP)
        player.clear()
        assert (player.pending_samples(), player.written_samples) == (0, 1000)
    assert read(tmp_path / "a.wav") == list(range(1000))


def test_a_wav_player_left_by_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"old")

    def fail() -> None:
        with WavPlayer(tmp_path / "a.wav", 1000, clock=None) as player:
            player.write(RAMP)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (tmp_path / "a.wav").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_loudspeaker_fills_its_device_in_order_and_with_silence_when_dry() -> None:
    fill: list[Callable[[Block], None]] = []
    device = FakeDevice()

    def open_device(sample_rate_hz: int, callback: Callable[[Block], None]) -> Device:
        assert sample_rate_hz == 24000
        fill.append(callback)
        return device

    with Loudspeaker(24000, open_device=open_device) as player:
        player.write(RAMP[:300])
        player.write(RAMP[300:500])
        block = np.ones(400, np.float32)
        fill[0](block)
        assert np.array_equal(block, RAMP[:400])
        assert player.pending_samples() == 100
        fill[0](block)
        assert np.array_equal(block, [*RAMP[400:500], *np.zeros(300)])
        player.write(RAMP)
        player.clear()
        fill[0](block)
        assert not block.any()
        assert player.pending_samples() == 0
    assert not device.is_open


def test_a_microphone_gives_what_it_heard_and_loses_the_oldest_when_nobody_listens() -> None:
    hear: list[Callable[[Samples], None]] = []
    device = FakeDevice()

    def open_device(sample_rate_hz: int, block_samples: int, callback: Callable[[Samples], None]) -> Device:
        assert (sample_rate_hz, block_samples) == (16000, 640)
        hear.append(callback)
        return device

    async def main() -> list[float]:
        with Microphone(16000, open_device=open_device) as microphone:
            for number in range(130):
                hear[0](np.full(640, number, np.float32))
            first = await anext(microphone)
            microphone.stop()
            return [float(first[0]), *[float(block[0]) async for block in microphone]]

    heard = run(main())
    assert heard == [float(number) for number in range(5, 130)]  # 125 blocks of 40 ms are 5 s
    assert not device.is_open


def test_a_recording_is_given_when_it_would_have_been_spoken() -> None:
    now_s, at_s = 3.0, []

    async def sleep(duration_s: float) -> None:
        nonlocal now_s
        now_s += duration_s
        await asyncio.sleep(0)

    async def main() -> list[Samples]:
        pieces = []
        async for piece in paced(RAMP, 10000, clock=lambda: now_s, sleep=sleep):
            pieces.append(piece)
            at_s.append(now_s)
        return pieces

    pieces = run(main())
    assert np.array_equal(np.concatenate(pieces), RAMP)
    assert at_s == pytest.approx([3.04, 3.08, 3.1])


@pytest.mark.parametrize("absent", ["package", "device"])
def test_without_a_device_the_error_says_so(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoDevices:
        class PortAudioError(Exception):
            pass

        def InputStream(self, **_: Any) -> None:  # noqa: N802 - as sounddevice names it
            raise self.PortAudioError("no default device")

        OutputStream = InputStream

    monkeypatch.setitem(sys.modules, "sounddevice", None if absent == "package" else NoDevices())
    with pytest.raises(DeviceError, match="PortAudio" if absent == "package" else "microphone cannot be opened"):
        open_input(16000, 640, lambda samples: None)
    with pytest.raises(DeviceError, match="PortAudio" if absent == "package" else "loudspeaker cannot be opened"):
        open_output(24000, lambda block: None)
