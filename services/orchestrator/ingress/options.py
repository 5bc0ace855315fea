"""`SessionOptions` and the core's `Options`, both ways: merged, checked, and told with all values in force.

What the API names but this release cannot do is refused with the field's path. Ranges are those of options.proto and
turn_taking.proto; what depends on the checkpoint and on how the server is set up comes in an `Offer`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from protos.gen.stepaudio.v1 import options_pb2, turn_taking_pb2
from services.orchestrator.conversation.options import (
    BargeInOptions,
    ContextOptions,
    ContextOverflow,
    EndpointingMode,
    EndpointingOptions,
    GenerationOptions,
    Options,
    SpeculationOptions,
    TurnTakingOptions,
    VoiceActivityOptions,
    VoiceOptions,
)
from services.orchestrator.ingress.fields import LARGEST_INT64, Fields
from services.orchestrator.ingress.tools import read_tool_speech, read_tools, tools_message
from services.orchestrator.ports.tools import ToolRunner
from services.shared.errors import InvalidOptionError

ROOT: Final = "options"
LONGEST_SYSTEM_PROMPT: Final = 16384
LONGEST_VOICE_ID: Final = 64
LARGEST_TOP_K: Final = 2**31 - 1

_MODES: Final[Mapping[int, EndpointingMode]] = MappingProxyType(
    {
        turn_taking_pb2.ENDPOINTING_MODE_SILENCE: EndpointingMode.SILENCE,
        turn_taking_pb2.ENDPOINTING_MODE_TURN_MODEL: EndpointingMode.TURN_MODEL,
        turn_taking_pb2.ENDPOINTING_MODE_MANUAL: EndpointingMode.MANUAL,
    }
)
_OVERFLOWS: Final[Mapping[int, ContextOverflow]] = MappingProxyType(
    {
        options_pb2.CONTEXT_OVERFLOW_DROP_OLDEST: ContextOverflow.DROP_OLDEST,
        options_pb2.CONTEXT_OVERFLOW_SUMMARISE: ContextOverflow.SUMMARISE,
    }
)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server has to give, and what it takes where a caller chooses nothing.

    Attributes:
        context_tokens: the chat model's context.
        max_new_tokens: longest reply that may be asked for.
        defaults: the options of a caller that sets none; the voice and the sampling are the checkpoint's, by name.
        has_turn_model: it can judge whether a turn is complete.
        tools: runs the functions that its operator has registered; without it there are none.
    """

    context_tokens: int
    max_new_tokens: int
    defaults: Options
    has_turn_model: bool = False
    tools: ToolRunner | None = None

    @property
    def endpointing_modes(self) -> tuple[EndpointingMode, ...]:
        """What may end the user's turn."""
        return tuple(mode for mode in _MODES.values() if self.has_turn_model or mode is not EndpointingMode.TURN_MODEL)


def merge(kept: Options, message: options_pb2.SessionOptions, offer: Offer, *, tenant: str = "") -> Options:
    """Put what a caller has set over the options in force.

    Args:
        kept: in force; at the start of a session the server's defaults.
        message: what the caller sent.
        offer: what the server can do.
        tenant: who the caller is: registered functions are for some.

    Raises:
        InvalidOptionError: a value is outside its range, or asks for what this server cannot do; details name the
            field, its value and the limit.
    """
    fields = Fields(message, ROOT)
    tools, tool_speech = kept.tools, kept.tool_speech
    if message.HasField("tools"):
        tools = read_tools(message.tools, f"{ROOT}.tools", offer.tools, tenant)
        speech = message.tools.speech
        tool_speech = read_tool_speech(speech, f"{ROOT}.tools.speech", offer.defaults.tool_speech)
    merged = Options(
        voice=merge_voice(kept.voice, fields.below("voice")),
        generation=merge_generation(kept.generation, fields.below("generation"), offer),
        turn_taking=_merge_turn_taking(kept.turn_taking, fields.below("turn_taking")),
        context=_merge_context(kept.context, fields.below("context"), offer),
        system_prompt=fields.text("system_prompt", kept.system_prompt, LONGEST_SYSTEM_PROMPT),
        partial_transcripts=fields.flag("partial_transcripts", kept.partial_transcripts),
        style_tags=fields.flag("style_tags", kept.style_tags),
        tools=tools,
        tool_speech=tool_speech,
    )
    if merged.turn_taking.mode not in offer.endpointing_modes:
        raise _unavailable(f"{ROOT}.turn_taking.mode")
    return _within_context(merged, offer)


def merge_voice(kept: VoiceOptions, fields: Fields) -> VoiceOptions:
    """As `merge`, for the voice alone; an empty id is the server's default voice."""
    return VoiceOptions(
        voice_id=fields.text("voice_id", kept.voice_id, LONGEST_VOICE_ID),
        speed=fields.real("speed", kept.speed, 0.25, 4.0),
        volume=fields.real("volume", kept.volume, 0.0, 10.0),
        seed=fields.integer("seed", kept.seed, 0, LARGEST_INT64),
    )


def merge_generation(kept: GenerationOptions, fields: Fields, offer: Offer) -> GenerationOptions:
    """As `merge`, for the generation of text alone."""
    return GenerationOptions(
        max_new_tokens=fields.integer("max_new_tokens", kept.max_new_tokens, 1, offer.max_new_tokens),
        temperature=fields.real("temperature", kept.temperature, 0.0, 2.0),
        top_p=fields.real("top_p", kept.top_p, 0.0, 1.0, above_low=True),
        top_k=fields.integer("top_k", kept.top_k, 0, LARGEST_TOP_K),
        seed=fields.integer("seed", kept.seed, 0, LARGEST_INT64),
    )


def _merge_turn_taking(kept: TurnTakingOptions, fields: Fields) -> TurnTakingOptions:
    activity, barge_in, speculation = (fields.below(name) for name in ("voice_activity", "barge_in", "speculation"))
    threshold = activity.real("threshold", kept.voice_activity.threshold, 0.0, 1.0, above_low=True)
    if threshold == 1.0:
        raise activity.refused("threshold", "1", "above 0 and below 1")
    return TurnTakingOptions(
        mode=fields.choice("mode", kept.mode, _MODES),
        voice_activity=VoiceActivityOptions(
            threshold=threshold,
            min_speech_ms=activity.integer("min_speech_ms", kept.voice_activity.min_speech_ms, 32, 1000),
            pre_roll_ms=activity.integer("pre_roll_ms", kept.voice_activity.pre_roll_ms, 0, 1000),
        ),
        while_idle=_merge_endpointing(kept.while_idle, fields.below("while_idle")),
        while_replying=_merge_endpointing(kept.while_replying, fields.below("while_replying")),
        while_tool_running=_merge_endpointing(kept.while_tool_running, fields.below("while_tool_running")),
        barge_in=BargeInOptions(
            enabled=barge_in.flag("enabled", kept.barge_in.enabled),
            min_speech_ms=barge_in.integer("min_speech_ms", kept.barge_in.min_speech_ms, 32, 2000),
            ignore_back_channels=barge_in.flag("ignore_back_channels", kept.barge_in.ignore_back_channels),
            false_interruption_ms=barge_in.integer_or_0(
                "false_interruption_ms", kept.barge_in.false_interruption_ms, 200, 5000
            ),
        ),
        speculation=SpeculationOptions(
            enabled=speculation.flag("enabled", kept.speculation.enabled),
            max_per_turn=speculation.integer("max_per_turn", kept.speculation.max_per_turn, 1, 16),
        ),
        max_utterance_ms=fields.integer("max_utterance_ms", kept.max_utterance_ms, 1000, 30_000),
    )


def _merge_endpointing(kept: EndpointingOptions, fields: Fields) -> EndpointingOptions:
    merged = EndpointingOptions(
        pause_ms=fields.integer("pause_ms", kept.pause_ms, 50, 2000),
        complete_silence_ms=fields.integer("complete_silence_ms", kept.complete_silence_ms, 100, 5000),
        max_silence_ms=fields.integer("max_silence_ms", kept.max_silence_ms, 200, 10_000),
        complete_threshold=fields.real("complete_threshold", kept.complete_threshold, 0.0, 1.0),
        adapt_to_caller=fields.flag("adapt_to_caller", kept.adapt_to_caller),
        one_word_silence_ms=fields.integer_or_0("one_word_silence_ms", kept.one_word_silence_ms, 50, 2000),
        spelling_silence_ms=fields.integer_or_0("spelling_silence_ms", kept.spelling_silence_ms, 200, 10_000),
    )
    if merged.complete_silence_ms < merged.pause_ms:
        limit = f"at least pause_ms, {merged.pause_ms}"
        raise fields.refused("complete_silence_ms", str(merged.complete_silence_ms), limit)
    if merged.max_silence_ms < merged.complete_silence_ms:
        limit = f"at least complete_silence_ms, {merged.complete_silence_ms}"
        raise fields.refused("max_silence_ms", str(merged.max_silence_ms), limit)
    return merged


def _merge_context(kept: ContextOptions, fields: Fields, offer: Offer) -> ContextOptions:
    return ContextOptions(
        max_context_tokens=fields.integer("max_context_tokens", kept.max_context_tokens, 1, offer.context_tokens),
        overflow=fields.choice("overflow", kept.overflow, _OVERFLOWS),
    )


def _within_context(options: Options, offer: Offer) -> Options:
    """Hold the context to what the longest reply leaves of it: a caller's own limit is refused, the model's follows."""
    room = max(1, offer.context_tokens - options.generation.max_new_tokens)
    chosen = options.context.max_context_tokens
    if chosen is not None and chosen > room:
        field = f"{ROOT}.context.max_context_tokens"
        limit = f"1 to {room}, the model's context less the longest reply"
        raise InvalidOptionError(f"{field} is {chosen}; it takes {limit}", field=field, value=str(chosen), limit=limit)
    return options


def _unavailable(field: str) -> InvalidOptionError:
    return InvalidOptionError(f"{field} asks for what this server cannot do yet; leave it out", field=field)


def to_message(options: Options, offer: Offer) -> options_pb2.SessionOptions:
    """Tell all values in force; a seed that nobody chose stays unset."""
    generation = replace(
        offer.defaults.generation,
        **{
            name: value
            for name in ("max_new_tokens", "temperature", "top_p", "top_k", "seed")
            if (value := getattr(options.generation, name)) is not None
        },
    )
    room = max(1, offer.context_tokens - generation.max_new_tokens)
    return options_pb2.SessionOptions(
        voice=options_pb2.VoiceOptions(
            voice_id=options.voice.voice_id or offer.defaults.voice.voice_id,
            speed=options.voice.speed,
            volume=options.voice.volume,
            seed=options.voice.seed,
        ),
        generation=options_pb2.GenerationOptions(
            max_new_tokens=generation.max_new_tokens,
            temperature=generation.temperature,
            top_p=generation.top_p,
            top_k=generation.top_k,
            seed=generation.seed,
        ),
        turn_taking=_turn_taking_message(options.turn_taking),
        tools=tools_message(options.tools, options.tool_speech),
        context=options_pb2.ContextOptions(
            max_context_tokens=options.context.max_context_tokens or room,
            overflow=_number(_OVERFLOWS, options.context.overflow),  # type: ignore[arg-type]  # an enum's number
        ),
        system_prompt=options.system_prompt,
        partial_transcripts=options.partial_transcripts,
        style_tags=options.style_tags,
    )


def mode_numbers(offer: Offer) -> tuple[int, ...]:
    """The endpointing modes of this release, as the API numbers them."""
    return tuple(number for number, mode in _MODES.items() if mode in offer.endpointing_modes)


def _number(choices: Mapping[int, object], wanted: object) -> int:
    return next(number for number, choice in choices.items() if choice is wanted)


def _turn_taking_message(options: TurnTakingOptions) -> turn_taking_pb2.TurnTakingOptions:
    activity, barge_in, speculation = options.voice_activity, options.barge_in, options.speculation
    return turn_taking_pb2.TurnTakingOptions(
        mode=_number(_MODES, options.mode),  # type: ignore[arg-type]  # an enum's number
        voice_activity=turn_taking_pb2.VoiceActivityOptions(
            threshold=activity.threshold, min_speech_ms=activity.min_speech_ms, pre_roll_ms=activity.pre_roll_ms
        ),
        while_idle=_endpointing_message(options.while_idle),
        while_replying=_endpointing_message(options.while_replying),
        while_tool_running=_endpointing_message(options.while_tool_running),
        barge_in=turn_taking_pb2.BargeInOptions(
            enabled=barge_in.enabled,
            min_speech_ms=barge_in.min_speech_ms,
            ignore_back_channels=barge_in.ignore_back_channels,
            false_interruption_ms=barge_in.false_interruption_ms,
        ),
        speculation=turn_taking_pb2.SpeculationOptions(
            enabled=speculation.enabled, max_per_turn=speculation.max_per_turn
        ),
        max_utterance_ms=options.max_utterance_ms,
    )


def _endpointing_message(options: EndpointingOptions) -> turn_taking_pb2.EndpointingOptions:
    return turn_taking_pb2.EndpointingOptions(
        pause_ms=options.pause_ms,
        complete_silence_ms=options.complete_silence_ms,
        max_silence_ms=options.max_silence_ms,
        complete_threshold=options.complete_threshold,
        adapt_to_caller=options.adapt_to_caller,
        one_word_silence_ms=options.one_word_silence_ms,
        spelling_silence_ms=options.spelling_silence_ms,
    )
