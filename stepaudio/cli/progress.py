"""What is shown while a command works: a status line on standard error, on a terminal only, and then the results."""

from types import TracebackType
from typing import Self

from rich.console import Console


class Progress:
    """The status line of one command; a context manager."""

    def __init__(self) -> None:
        errors = Console(stderr=True)
        self._is_shown = errors.is_terminal
        self._status = errors.status("connecting")
        self._console = Console()

    def __enter__(self) -> Self:
        if self._is_shown:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()

    def update(self, step: str) -> None:
        """Show what is being done now."""
        if self._is_shown:
            self._status.update(step)

    def print(self, line: str) -> None:
        """Print one line of the result, above the status line."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
