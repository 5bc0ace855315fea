"""Every error this project raises on purpose, as one tree.

Each class carries the gRPC status it becomes at the public API and whether trying the same call again can help.
Rooms raise these and chain the cause; only an ingress translates them.

    StepAudioError                     INTERNAL
    ├── InvalidInputError              INVALID_ARGUMENT      the caller must change the request
    │   ├── AudioError                                       … its audio
    │   │   ├── UnreadableAudioError                         not an audio file, or a damaged one
    │   │   ├── EmptyAudioError                              no samples, or too few to hold a speech token
    │   │   ├── AudioTooLongError                            longer than the room takes
    │   │   └── NonFiniteAudioError                          NaN or infinity among the samples
    │   ├── TextError                                        … its text
    │   │   ├── NothingToSpeakError                          no speakable character
    │   │   └── UnknownTokenError                            an id or piece outside the vocabulary
    │   ├── PromptTooLongError                               prompt + new tokens exceed the model's max_seq_len
    │   └── InvalidOptionError                               a parameter outside its range
    ├── VoiceNotFoundError             NOT_FOUND
    ├── CheckpointError                FAILED_PRECONDITION   the folder of weights is not usable; names the file
    │   ├── MissingFileError                                 a file of the public layout is absent
    │   ├── CorruptFileError                                 truncated, or not what its name says
    │   └── ShapeMismatchError                               a tensor is missing, unexpected or of a wrong shape
    ├── GenerationError                INTERNAL, retryable   the model produced what cannot be spoken
    │   ├── EmptyReplyError                                  it stopped before the first token
    │   ├── TextInSpeechError                                a text id inside the speech stream
    │   └── MisalignedSpeechError                            codes that cannot be brought back to 2:3
    ├── OverloadedError                RESOURCE_EXHAUSTED, retryable
    ├── RoomUnavailableError           UNAVAILABLE, retryable           a room does not answer
    ├── DeadlineExceededError          DEADLINE_EXCEEDED                the call's time is over
    └── CancelledRequestError          CANCELLED
"""

from typing import ClassVar


class StepAudioError(Exception):
    """Base of every error raised on purpose.

    Attributes:
        grpc_code: name of the `grpc.StatusCode` an ingress answers with.
        retryable: whether the same request may succeed when tried again.
    """

    grpc_code: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False


class InvalidInputError(StepAudioError):
    """The request itself is wrong."""

    grpc_code = "INVALID_ARGUMENT"


class AudioError(InvalidInputError):
    """The audio of the request is wrong."""


class UnreadableAudioError(AudioError):
    """The file is not audio, or is damaged."""


class EmptyAudioError(AudioError):
    """The audio has no samples, or too few to hold one speech token."""


class AudioTooLongError(AudioError):
    """The audio is longer than the room takes."""


class NonFiniteAudioError(AudioError):
    """The audio holds NaN or infinity."""


class TextError(InvalidInputError):
    """The text of the request is wrong."""


class NothingToSpeakError(TextError):
    """The text has no speakable character."""


class UnknownTokenError(TextError):
    """A token id or piece is outside the vocabulary."""


class PromptTooLongError(InvalidInputError):
    """The prompt and the tokens asked for exceed the model's context."""


class InvalidOptionError(InvalidInputError):
    """A parameter is outside its range."""


class VoiceNotFoundError(StepAudioError):
    """No voice of that name is registered."""

    grpc_code = "NOT_FOUND"


class CheckpointError(StepAudioError):
    """A checkpoint folder cannot be used; the message names the file and what to do."""

    grpc_code = "FAILED_PRECONDITION"


class MissingFileError(CheckpointError):
    """A file of the public layout is absent."""


class CorruptFileError(CheckpointError):
    """A file is truncated, or is not what its name says."""


class ShapeMismatchError(CheckpointError):
    """A tensor is missing, unexpected, or of a wrong shape."""


class GenerationError(StepAudioError):
    """The model produced something that cannot be used; another seed may do better."""

    retryable = True


class EmptyReplyError(GenerationError):
    """The model stopped before its first token."""


class TextInSpeechError(GenerationError):
    """A text id stands inside the speech stream."""


class MisalignedSpeechError(GenerationError):
    """Speech codes that cannot be brought back to the 2:3 pattern."""


class OverloadedError(StepAudioError):
    """No capacity now; a later try may succeed."""

    grpc_code = "RESOURCE_EXHAUSTED"
    retryable = True


class RoomUnavailableError(StepAudioError):
    """A room's server cannot be reached, or is not ready."""

    grpc_code = "UNAVAILABLE"
    retryable = True


class DeadlineExceededError(StepAudioError):
    """The call's deadline has passed."""

    grpc_code = "DEADLINE_EXCEEDED"


class CancelledRequestError(StepAudioError):
    """The caller went away or cancelled."""

    grpc_code = "CANCELLED"
