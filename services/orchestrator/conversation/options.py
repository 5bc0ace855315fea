"""Everything of a conversation that its caller may choose: the core's form of `SessionOptions`, with the defaults.

Values that came from outside are checked where they come in; here they are taken as they are.
Source: the ranges and meanings are those of options.proto and turn_taking.proto.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class EndpointingMode(StrEnum):
    """What ends the user's turn."""

    SILENCE = "silence"
    TURN_MODEL = "turn_model"
    MANUAL = "manual"


class ContextOverflow(StrEnum):
    """What is done with the oldest turns of a history that is too long."""

    DROP_OLDEST = "drop_oldest"
    SUMMARISE = "summarise"


@dataclass(frozen=True, slots=True)
class VoiceOptions:
    """Who speaks, and how; an empty voice is the server's default one, no seed draws one for each reply."""

    voice_id: str = ""
    speed: float = 1.0
    volume: float = 1.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How text is generated; what is None is the checkpoint's own."""

    max_new_tokens: int = 512
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class VoiceActivityOptions:
    """Finding speech in the audio."""

    threshold: float = 0.5
    min_speech_ms: int = 96
    pre_roll_ms: int = 320


@dataclass(frozen=True, slots=True)
class EndpointingOptions:
    """Ending the user's turn, in one state of the agent."""

    pause_ms: int = 200
    complete_silence_ms: int = 700
    max_silence_ms: int = 2000
    complete_threshold: float = 0.5
    adapt_to_caller: bool = False
    one_word_silence_ms: int = 0
    spelling_silence_ms: int = 0


@dataclass(frozen=True, slots=True)
class BargeInOptions:
    """The user speaking into the agent's reply."""

    enabled: bool = False
    min_speech_ms: int = 256
    ignore_back_channels: bool = False
    false_interruption_ms: int = 0


@dataclass(frozen=True, slots=True)
class SpeculationOptions:
    """Replies prepared at a pause."""

    enabled: bool = False
    max_per_turn: int = 4


@dataclass(frozen=True, slots=True)
class TurnTakingOptions:
    """All knobs of turn taking."""

    mode: EndpointingMode = EndpointingMode.SILENCE
    voice_activity: VoiceActivityOptions = VoiceActivityOptions()
    while_idle: EndpointingOptions = EndpointingOptions()
    while_replying: EndpointingOptions = EndpointingOptions()
    while_tool_running: EndpointingOptions = EndpointingOptions()
    barge_in: BargeInOptions = BargeInOptions()
    speculation: SpeculationOptions = SpeculationOptions()
    max_utterance_ms: int = 30_000


_LEARNED: Final = EndpointingOptions(complete_silence_ms=1200, adapt_to_caller=True)
SERVED_TURN_TAKING: Final = TurnTakingOptions(
    while_idle=_LEARNED,
    while_replying=_LEARNED,
    while_tool_running=_LEARNED,
    barge_in=BargeInOptions(min_speech_ms=192),
)
"""Of callers who choose nothing (docs/measurements.md): the silence is the caller's own, and long at first; who may
interrupt silences the reply within 300 ms."""


class ToolExecutor(StrEnum):
    """Who runs a function."""

    CLIENT = "client"
    HTTP_ENDPOINT = "http_endpoint"
    MCP_SERVER = "mcp_server"


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call.

    Attributes:
        name: by which the model calls it.
        description: as the model reads it.
        parameters_json: a JSON Schema object of its arguments; empty is none.
        timeout_ms: how long a call may take.
        executor: who runs it.
        registered_as: name of the endpoint or server; empty where the client runs it.
    """

    name: str
    description: str
    parameters_json: str = ""
    timeout_ms: int = 30_000
    executor: ToolExecutor = ToolExecutor.CLIENT
    registered_as: str = ""


@dataclass(frozen=True, slots=True)
class ToolSpeech:
    """What the agent says about functions where the model has no words; empty is silence.

    Attributes:
        notice: while a function runs and everything said before was heard.
        notice_after_ms: silence before it.
        apology: where calls are over and the model says nothing to them.
    """

    notice: str = "One moment, please."
    notice_after_ms: int = 1_000
    apology: str = "I am sorry, that did not work."


@dataclass(frozen=True, slots=True)
class ContextOptions:
    """What happens to a history that outgrows the model's context; no limit of its own is the model's."""

    max_context_tokens: int | None = None
    overflow: ContextOverflow = ContextOverflow.DROP_OLDEST


@dataclass(frozen=True, slots=True)
class Options:
    """Everything of a conversation that can change while it runs."""

    voice: VoiceOptions = VoiceOptions()
    generation: GenerationOptions = GenerationOptions()
    turn_taking: TurnTakingOptions = field(default_factory=TurnTakingOptions)
    context: ContextOptions = ContextOptions()
    system_prompt: str = ""
    partial_transcripts: bool = False
    style_tags: bool = False
    tools: tuple[Tool, ...] = ()
    tool_speech: ToolSpeech = ToolSpeech()
