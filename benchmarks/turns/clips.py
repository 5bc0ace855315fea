"""Recordings of people, out of Debian packages: what the callers of the measurements are made of.

    python -m benchmarks.turns.clips FOLDER        gets the packages by apt-get and unpacks them there (90 MB)

 * asterisk-core-sounds-{en,es,fr,it,ru}-g722: announcements of a telephone exchange, each language by one speaker
   (CC BY-SA 3.0; the Italian and the Russian ones CC BY 3.0)
 * asterisk-prompt-it-menardi-wav (CC BY-SA 3.0), asterisk-prompt-fr-armelle (of BSD's kind) and asterisk-prompt-es-co
   (GPL-2): the same by three more speakers, the last two at the quality of a mobile telephone

Nothing of them is part of the project or of what it publishes: only figures are. A recording here is one announcement
of 2 to 8 s in which somebody speaks.
"""

import argparse
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from services.shared.audio.pcm import Samples

RATE_HZ: Final = 16_000
SHORTEST_S, LONGEST_S = 2.0, 8.0
SPEAKERS: Final = {
    "English": "asterisk-core-sounds-en-g722",
    "Spanish": "asterisk-core-sounds-es-g722",
    "French": "asterisk-core-sounds-fr-g722",
    "Italian": "asterisk-core-sounds-it-g722",
    "Russian": "asterisk-core-sounds-ru-g722",
    "Colombian": "asterisk-prompt-es-co",
    "French 2": "asterisk-prompt-fr-armelle",
    "Italian 2": "asterisk-prompt-it-menardi-wav",
}
"""Speaker -> the package."""
_FORMATS: Final = {".g722": "g722", ".gsm": "gsm", ".wav": "wav"}


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One recording: float32 at 16 kHz, and its name."""

    name: str
    samples: Samples


def fetch(folder: Path) -> None:
    """Get the packages of all speakers and unpack them, each into a folder of its name.

    Raises:
        CalledProcessError: apt-get or dpkg-deb failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [package for package in SPEAKERS.values() if not (folder / package).is_dir()]
    for package in missing:
        subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
        archive = next(folder.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder / package)], check=True)
        archive.unlink()


def clip_paths(folder: Path, speaker: str) -> list[Path]:
    """All recordings of a speaker, by name.

    Raises:
        FileNotFoundError: the speaker's package is not there.
    """
    package = folder / SPEAKERS[speaker]
    if not package.is_dir():
        raise FileNotFoundError(f"{package} is absent; run `python -m benchmarks.turns.clips {folder}`")
    return sorted(path for path in package.rglob("*") if path.suffix in _FORMATS and path.is_file())


def read_clip(path: Path) -> Clip | None:
    """A recording; None if it is not of a usable length."""
    resampler = AudioResampler("flt", "mono", RATE_HZ)
    pieces: list[Samples] = [np.zeros(0, np.float32)]
    with av.open(str(path), format=_FORMATS[path.suffix]) as container:
        if container.streams.audio:
            for frame in container.decode(audio=0):
                pieces += _arrays(resampler.resample(frame))
    pieces += _arrays(resampler.resample(None)) if len(pieces) > 1 else []
    samples = np.concatenate(pieces)
    return Clip(path.stem, samples) if SHORTEST_S <= len(samples) / RATE_HZ <= LONGEST_S else None


def _arrays(frames: Iterable[AudioFrame]) -> list[Samples]:
    return [frame.to_ndarray().ravel().astype(np.float32) for frame in frames]


def main() -> None:
    """Fetch, and say what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    fetch(folder)
    for speaker, package in SPEAKERS.items():
        print(f"{speaker}: {len(clip_paths(folder, speaker))} recordings of {package}")


if __name__ == "__main__":
    main()
