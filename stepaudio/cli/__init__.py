"""The command line `stepaudio`: over the API with `--server`, without it the rooms of this process."""

from stepaudio.cli.app import app

__all__ = ["app"]
