"""Where results go: a wav file that is either whole or absent, and a table of room times."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from services.offline.speaking import Speech
from services.offline.timing import RoomTime
from services.shared.audio.files import write_wav
from services.shared.errors import InvalidOptionError


class OutputFile:
    """A wav file to be written at the end of long work; a context manager.

    Entering makes the folder and a temporary file beside the target, so that a path that cannot be written fails
    before the work; `write` renames the finished file onto the target; leaving without it removes the temporary file.

    Args:
        path: the target, replaced if it exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary: Path | None = None

    def __enter__(self) -> "OutputFile":
        """Open the file.

        Raises:
            InvalidOptionError: the target is a folder, has another suffix, or cannot be written.
        """
        if self._path.suffix.lower() != ".wav":
            raise InvalidOptionError(f"--output {self._path} must end in .wav: that is what is written")
        if self._path.is_dir():
            raise InvalidOptionError(f"--output {self._path} is a folder; add the name of a file")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.stem}-", suffix=".part")
        except OSError as error:
            raise InvalidOptionError(f"--output {self._path} cannot be written ({error.strerror})") from error
        os.close(handle)
        self._temporary = Path(name)
        return self

    def __exit__(self, *_: object) -> None:
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)

    def write(self, speech: Speech) -> None:
        """Write the speech and put it in the target's place at once.

        Raises:
            StepAudioError: the file cannot be written.
        """
        assert self._temporary is not None, "entered"
        write_wav(self._temporary, speech.samples, speech.sample_rate_hz)
        mask = os.umask(0)
        os.umask(mask)
        self._temporary.chmod(0o666 & ~mask)  # temporary files are private, results are not
        self._temporary.replace(self._path)
        self._temporary = None


def time_table(times: Sequence[RoomTime], loading: Sequence[RoomTime]) -> Table:
    """Lay out the time of each room, against the audio it handled, and of loading them all."""
    table = Table(box=None, pad_edge=False)
    table.add_column("room")
    for column in ("wall s", "CPU s", "audio s", "RTF"):
        table.add_column(column, justify="right")
    for time in times:
        audio = f"{time.audio_s:.2f}" if time.audio_s else ""
        rtf = f"{time.rtf:.3f}" if time.rtf is not None else ""
        table.add_row(time.room, f"{time.wall_s:.2f}", f"{time.cpu_s:.2f}", audio, rtf)
    wall_s, cpu_s = sum(time.wall_s for time in loading), sum(time.cpu_s for time in loading)
    table.add_row("loading", f"{wall_s:.2f}", f"{cpu_s:.2f}")
    return table
