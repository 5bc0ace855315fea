"""A wav file that is either whole or absent: checked before the work, in its place only after it."""

import os
import tempfile
from pathlib import Path

from services.shared.audio.files import write_wav
from services.shared.audio.pcm import Samples
from services.shared.errors import InvalidOptionError


class OutputFile:
    """A wav file to be written at the end of long work; a context manager.

    Entering makes the folder and a temporary file beside the target, so that a path that cannot be written fails
    before the work; `keep` renames the finished file onto the target; leaving without it removes the temporary file.

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

    @property
    def temporary(self) -> Path:
        """The file to write to, until `keep`."""
        assert self._temporary is not None, "entered, not kept"
        return self._temporary

    def write(self, samples: Samples, sample_rate_hz: int) -> None:
        """Write [N] samples and put the file in the target's place at once.

        Raises:
            StepAudioError: the file cannot be written.
        """
        write_wav(self.temporary, samples, sample_rate_hz)
        self.keep()

    def keep(self) -> None:
        """Put what was written in the target's place at once."""
        mask = os.umask(0)
        os.umask(mask)
        self.temporary.chmod(0o666 & ~mask)  # temporary files are private, results are not
        self.temporary.replace(self._path)
        self._temporary = None
