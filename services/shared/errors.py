"""Every error this project raises on purpose, as one tree.

Each class carries what it becomes at the public API (status code and reason, as errors.proto has them) and whether
trying the same call again can help. Rooms raise these and chain the cause; only an ingress translates them.

    StepAudioError                     INTERNAL
    ├── InvalidInputError              INVALID_ARGUMENT      the caller must change the request
    │   ├── AudioError                                       … its audio
    │   │   ├── UnsupportedAudioFormatError                  an encoding, rate or chunk length that is not taken
    │   │   ├── UnreadableAudioError                         not an audio file, or a damaged one
    │   │   ├── EmptyAudioError                              no samples, or too few to hold a speech token
    │   │   ├── AudioTooLongError                            longer than the room takes
    │   │   └── NonFiniteAudioError                          NaN or infinity among the samples
    │   ├── TextError                                        … its text
    │   │   ├── TextTooLongError                             longer than may be
    │   │   ├── NothingToSpeakError                          no speakable character
    │   │   └── UnknownTokenError                            an id or piece outside the vocabulary
    │   ├── PromptTooLongError                               prompt + new tokens exceed the model's max_seq_len
    │   ├── InvalidOptionError                               a parameter outside its range
    │   ├── InvalidFirstMessageError                         a stream's first message is another, or comes again
    │   ├── InvalidPageTokenError                            not given by this server, or too old
    │   └── EmptyConversationError                           no messages
    ├── UnauthenticatedError           UNAUTHENTICATED       no valid token or key
    ├── ForbiddenError                 PERMISSION_DENIED     a valid one, but not for this
    ├── QuotaExceededError             RESOURCE_EXHAUSTED, retryable    the tenant's limit
    ├── MessageTooLargeError           RESOURCE_EXHAUSTED    larger than the server reads
    ├── RequestIdReusedError           ALREADY_EXISTS        used before, for something else
    ├── VoiceNotFoundError             NOT_FOUND
    ├── VoiceIsBuiltInError            FAILED_PRECONDITION   and cannot be deleted
    ├── ConsentRequiredError           FAILED_PRECONDITION   no voice without the speaker's agreement
    ├── TooManyVoicesError             RESOURCE_EXHAUSTED    the tenant has to delete one
    ├── SessionNotFoundError           NOT_FOUND             never was, has expired, or is another tenant's
    ├── InvalidResumeTokenError        PERMISSION_DENIED     wrong, or replaced
    ├── SessionEndedError              FAILED_PRECONDITION   it can only be read
    ├── SessionTakenOverError          ABORTED               a newer stream owns it
    ├── SessionDeletedError            ABORTED
    ├── SessionTooLongError            OUT_OF_RANGE          it has reached its longest time
    ├── InputIdleError                 ABORTED               the client said nothing for too long
    ├── InputEndedError                FAILED_PRECONDITION   audio or a turn after the end of input
    ├── InputTooFastError              RESOURCE_EXHAUSTED    audio faster than it may come
    ├── SlowConsumerError              RESOURCE_EXHAUSTED    the client does not read what it is sent
    ├── TooManyWaitingTurnsError       RESOURCE_EXHAUSTED
    ├── ToolCallNotFoundError          NOT_FOUND
    ├── CheckpointError                FAILED_PRECONDITION   the folder of weights is not usable; names the file
    │   ├── MissingFileError                                 a file of the public layout is absent
    │   ├── CorruptFileError                                 truncated, or not what its name says
    │   └── ShapeMismatchError                               a tensor is missing, unexpected or of a wrong shape
    ├── GenerationError                INTERNAL, retryable   the model produced what cannot be spoken
    │   ├── EmptyReplyError                                  it stopped before the first token
    │   ├── TextInSpeechError                                a text id inside the speech stream
    │   └── MisalignedSpeechError                            codes that cannot be brought back to 2:3
    ├── OverloadedError                RESOURCE_EXHAUSTED, retryable
    ├── DrainingError                  UNAVAILABLE, retryable           this replica shuts down
    ├── RoomUnavailableError           UNAVAILABLE, retryable           a room or the store does not answer
    ├── DeadlineExceededError          DEADLINE_EXCEEDED                the call's time is over
    └── CancelledRequestError          CANCELLED
"""

import re
from typing import ClassVar


class StepAudioError(Exception):
    """Base of every error raised on purpose.

    Attributes:
        grpc_code: name of the `grpc.StatusCode` an ingress answers with.
        reason: name of the error at the public API; of a class that sets none, the class's own in capitals.
        retryable: whether the same request may succeed when tried again.
        details: what is wrong for programs to read: `field`, `value`, `limit`, `session_id`, where they are known.
    """

    grpc_code: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **details: str) -> None:
        super().__init__(message)
        self.details = details

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "reason" not in vars(cls):
            cls.reason = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__.removesuffix("Error")).upper()


class InvalidInputError(StepAudioError):
    """The request itself is wrong."""

    grpc_code = "INVALID_ARGUMENT"


class AudioError(InvalidInputError):
    """The audio of the request is wrong."""

    reason = "INVALID_AUDIO"


class UnsupportedAudioFormatError(AudioError):
    """An encoding, rate or chunk length that is not taken."""


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

    reason = "INVALID_TEXT"


class TextTooLongError(TextError):
    """The text is longer than may be."""


class NothingToSpeakError(TextError):
    """The text has no speakable character."""


class UnknownTokenError(TextError):
    """A token id or piece is outside the vocabulary."""


class PromptTooLongError(InvalidInputError):
    """The prompt and the tokens asked for exceed the model's context."""


class InvalidOptionError(InvalidInputError):
    """A parameter is outside its range."""


class InvalidFirstMessageError(InvalidInputError):
    """A stream did not begin with its first message, or another first message came later."""


class InvalidPageTokenError(InvalidInputError):
    """A page token was not given by this server, or is too old."""


class EmptyConversationError(InvalidInputError):
    """A conversation without messages has no next one."""


class UnauthenticatedError(StepAudioError):
    """No token or key came, or it is not valid."""

    grpc_code = "UNAUTHENTICATED"


class ForbiddenError(StepAudioError):
    """The token or key is valid, but not for this."""

    grpc_code = "PERMISSION_DENIED"


class QuotaExceededError(StepAudioError):
    """The tenant's limit is reached; the detail `limit` says which."""

    grpc_code = "RESOURCE_EXHAUSTED"
    retryable = True


class MessageTooLargeError(StepAudioError):
    """A message is larger than the server reads."""

    grpc_code = "RESOURCE_EXHAUSTED"


class RequestIdReusedError(StepAudioError):
    """A request id was used before, for something else."""

    grpc_code = "ALREADY_EXISTS"


class VoiceNotFoundError(StepAudioError):
    """No voice of that name is registered."""

    grpc_code = "NOT_FOUND"


class VoiceIsBuiltInError(StepAudioError):
    """A built-in voice cannot be deleted."""

    grpc_code = "FAILED_PRECONDITION"


class ConsentRequiredError(StepAudioError):
    """No voice is made without the speaker's agreement."""

    grpc_code = "FAILED_PRECONDITION"


class TooManyVoicesError(StepAudioError):
    """The tenant's limit of voices is reached."""

    grpc_code = "RESOURCE_EXHAUSTED"


class SessionNotFoundError(StepAudioError):
    """No such session, or it has expired, or it is another tenant's."""

    grpc_code = "NOT_FOUND"


class InvalidResumeTokenError(StepAudioError):
    """The resume token is wrong or has been replaced."""

    grpc_code = "PERMISSION_DENIED"


class SessionEndedError(StepAudioError):
    """The session has ended and cannot be resumed."""

    grpc_code = "FAILED_PRECONDITION"


class SessionTakenOverError(StepAudioError):
    """A newer stream has resumed this session."""

    grpc_code = "ABORTED"


class SessionDeletedError(StepAudioError):
    """The session was deleted."""

    grpc_code = "ABORTED"


class SessionTooLongError(StepAudioError):
    """The session has reached its longest time."""

    grpc_code = "OUT_OF_RANGE"


class InputIdleError(StepAudioError):
    """The client sent nothing for too long; the session can be resumed."""

    grpc_code = "ABORTED"


class InputEndedError(StepAudioError):
    """Audio or a turn came after the end of input."""

    grpc_code = "FAILED_PRECONDITION"


class InputTooFastError(StepAudioError):
    """The client sends audio faster than it may."""

    grpc_code = "RESOURCE_EXHAUSTED"


class SlowConsumerError(StepAudioError):
    """The client does not read what it is sent; the session can be resumed."""

    grpc_code = "RESOURCE_EXHAUSTED"


class TooManyWaitingTurnsError(StepAudioError):
    """Too many turns that the client asked for wait for the reply to end."""

    grpc_code = "RESOURCE_EXHAUSTED"


class ToolCallNotFoundError(StepAudioError):
    """No such call of a function was made."""

    grpc_code = "NOT_FOUND"


class CheckpointError(StepAudioError):
    """A checkpoint folder cannot be used; the message names the file and what to do."""

    reason = "UNUSABLE_CHECKPOINT"
    grpc_code = "FAILED_PRECONDITION"


class MissingFileError(CheckpointError):
    """A file of the public layout is absent."""


class CorruptFileError(CheckpointError):
    """A file is truncated, or is not what its name says."""


class ShapeMismatchError(CheckpointError):
    """A tensor is missing, unexpected, or of a wrong shape."""


class GenerationError(StepAudioError):
    """The model produced something that cannot be used; another seed may do better."""

    reason = "GENERATION_FAILED"
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


class DrainingError(StepAudioError):
    """The replica shuts down; another one answers."""

    grpc_code = "UNAVAILABLE"
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

    reason = "CANCELLED"
    grpc_code = "CANCELLED"
