"""What goes wrong in a command: one line on standard error, and an exit code.

2   the request is wrong: its audio, text, voice, options, address or credentials
3   the checkpoint cannot be used
1   anything else, e.g. the model produced no speech, or the server is not there
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

import grpc
import typer

from services.shared.errors import CheckpointError, InvalidInputError, StepAudioError, VoiceNotFoundError
from stepaudio.errors import ApiError, ClientError

_REQUEST_IS_WRONG, _CHECKPOINT_IS_WRONG, _FAILED = 2, 3, 1
_CHECKPOINT_REASONS: Final = ("UNUSABLE_CHECKPOINT", "MISSING_FILE", "CORRUPT_FILE", "SHAPE_MISMATCH")
_REQUEST_CODES: Final = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
)


@contextmanager
def failures_as_exit_codes() -> Iterator[None]:
    """Turn an error raised on purpose into its line and exit code."""
    try:
        yield
    except ExceptionGroup as errors:
        _end(_first(errors))
    except (StepAudioError, ClientError) as error:
        _end(error)


def _end(error: Exception) -> NoReturn:
    if not isinstance(error, StepAudioError | ClientError):
        raise error
    typer.echo(f"stepaudio: {' '.join(str(error).split())}", err=True)
    raise typer.Exit(_exit_code(error)) from error


def _first(errors: ExceptionGroup[Exception]) -> Exception:
    """The error that came first, of tasks that ended one another."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first


def _exit_code(error: StepAudioError | ClientError) -> int:
    if isinstance(error, CheckpointError) or (isinstance(error, ApiError) and error.reason in _CHECKPOINT_REASONS):
        return _CHECKPOINT_IS_WRONG
    if isinstance(error, InvalidInputError | VoiceNotFoundError):
        return _REQUEST_IS_WRONG
    return _REQUEST_IS_WRONG if isinstance(error, ApiError) and error.code in _REQUEST_CODES else _FAILED
