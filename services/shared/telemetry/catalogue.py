"""Every metric of the system, declared once: processes register what stands here, and the document is made from it.

Names are `stepaudio_<stage>_<what>_<unit>[_total]`. A label's values are listed here too, so that the number of series
is known before the first one exists; ids of sessions, turns or tenants are never labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import product
from typing import Final

from services.shared.errors import StepAudioError
from services.shared.triton.specs import MODELS, SPEECH_TOKENIZER, STEP1_CHAT, STEP1_TTS, TOKEN_TO_WAVE

ORCHESTRATOR: Final = "orchestrator"
OK: Final = "OK"
"""The reason of a status that is no error."""


class MetricKind(StrEnum):
    """What a metric does over time."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric.

    Attributes:
        what: what is counted or measured, its unit last; a counter's ends in `_total`.
        kind: what it does over time.
        help_text: a sentence for people.
        labels: the values that each label can have.
        buckets: upper bounds of a histogram's buckets, rising, in the metric's unit.
    """

    what: str
    kind: MetricKind
    help_text: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if (self.kind is MetricKind.HISTOGRAM) != bool(self.buckets):
            raise ValueError(f"{self.what}: a histogram has buckets, and nothing else has")
        if (self.kind is MetricKind.COUNTER) != self.what.endswith("_total"):
            raise ValueError(f"{self.what}: a counter's name ends in _total, and no other's does")

    def name(self, stage: str) -> str:
        """Its full name at a stage: the orchestrator, or a model."""
        return f"stepaudio_{stage}_{self.what}"

    @property
    def label_values(self) -> tuple[tuple[str, ...], ...]:
        """All combinations of values, one a series."""
        return tuple(product(*self.labels.values()))


def _counter(what: str, help_text: str, **labels: tuple[str, ...]) -> MetricSpec:
    return MetricSpec(what, MetricKind.COUNTER, help_text, labels)


def _gauge(what: str, help_text: str) -> MetricSpec:
    return MetricSpec(what, MetricKind.GAUGE, help_text)


def _histogram(what: str, help_text: str, buckets: tuple[float, ...], **labels: tuple[str, ...]) -> MetricSpec:
    return MetricSpec(what, MetricKind.HISTOGRAM, help_text, labels, buckets)


def error_reasons() -> tuple[str, ...]:
    """Every reason of the error tree, in alphabetical order."""
    found, open_classes = set[str](), [StepAudioError]
    while open_classes:
        kind = open_classes.pop()
        found.add(kind.reason)
        open_classes += kind.__subclasses__()
    return tuple(sorted(found))


ROOMS: Final = ("tokenizer", "lm", "tts", "vocoder")
ORIGINS: Final = ("speech", "text", "say")
OUTCOMES: Final = ("completed", "interrupted", "failed")
FIRST_AUDIO_PARTS: Final = ("endpointing", "tokenizer", "lm", "tts", "vocoder", "orchestrator")
INTERRUPTION_REASONS: Final = ("speech", "client", "client_turn")
SPECULATION_OUTCOMES: Final = ("committed", "discarded", "withheld")
DEGRADATIONS: Final = ("smaller_first_chunk", "fewer_flow_steps", "no_speculation")
TOOL_EXECUTORS: Final = ("client", "http_endpoint", "mcp_server", "none")
TOOL_OUTCOMES: Final = ("returned", "failed", "timed_out", "cancelled", "invalid")
SESSION_BEGINNINGS: Final = ("new", "resumed")
STORE_OPERATIONS: Final = ("create", "resume", "renew", "write", "read", "delete")
REQUEST_OUTCOMES: Final = ("ok", "invalid", "cancelled", "failed")

# People take turns within 200 to 300 ms of each other, and find a silence above a second long: the buckets are close
# together there, and go on to where a call has failed in all but name.
_SPEECH_S: Final = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
# Who speaks up hears the other go on for as long: a tenth of a second is a breath, a second a fight.
_SILENCE_S: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
_ROOM_S: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0)
# A frame of audio lasts 20 ms: what holds up the loop for longer is heard.
_LOOP_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)
_TOOL_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
_STORE_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)

OPEN_SESSIONS: Final = _gauge("open_sessions", "Sessions that live here, those that wait for their client included.")
ATTACHED_SESSIONS: Final = _gauge("attached_sessions", "Sessions that have a client now.")
DRAINING_SESSIONS: Final = _gauge("draining_sessions", "Sessions that a replica still has while it drains; else 0.")
MAX_SESSIONS: Final = _gauge("max_sessions", "Sessions that this replica takes at most.")
BEGUN_SESSIONS: Final = _counter(
    "begun_sessions_total", "Sessions that this replica took up, new or resumed.", how=SESSION_BEGINNINGS
)
ENDED_STREAMS: Final = _counter(
    "ended_streams_total",
    "Streams of conversations that ended, by the reason of their status.",
    reason=(OK, *error_reasons()),
)
ENDED_TURNS: Final = _counter(
    "ended_turns_total", "Turns that were committed, by how they began and ended.", origin=ORIGINS, outcome=OUTCOMES
)
FIRST_AUDIO: Final = _histogram(
    "first_audio_seconds", "From the end of the user's turn to the reply's first samples.", _SPEECH_S, origin=ORIGINS
)
FIRST_AUDIO_PART: Final = _histogram(
    "first_audio_part_seconds", "Where the silence before a reply went; the parts of a turn sum to the whole.",
    _SPEECH_S, part=FIRST_AUDIO_PARTS,
)  # fmt: skip
ROOM_FIRST_OUTPUT: Final = _histogram(
    "room_first_output_seconds", "From a turn's first request to a room to its first output.", _ROOM_S, room=ROOMS
)
ROOM_ANSWER: Final = _histogram(
    "room_answer_seconds", "From asking a room to the end of its answers, all of a turn together.", _ROOM_S, room=ROOMS
)
ROOM_REQUESTS: Final = _counter("room_requests_total", "Requests to a room.", room=ROOMS)
BARGE_IN_SILENCE: Final = _histogram(
    "barge_in_silence_seconds",
    "From the arrival of what interrupted a reply, the last of the speech that had to be heard or the client's word, "
    "until the client was told to fall silent; no audio of the reply follows.",
    _SILENCE_S,
    reason=INTERRUPTION_REASONS,
)
TOKENS: Final = _counter(
    "tokens_total", "Tokens that the language models read and wrote.", kind=("prompt", "text", "speech")
)
USER_AUDIO: Final = _counter("user_audio_seconds_total", "The users' utterances, in seconds of audio.")
REPLY_AUDIO: Final = _counter("reply_audio_seconds_total", "Replies that were sent, in seconds of audio.")
HEARD_AUDIO: Final = _counter("heard_audio_seconds_total", "Replies as far as they were heard, in seconds of audio.")
UNDERRUNS: Final = _counter("playout_underruns_total", "How often a player ran dry within a reply.")
SPECULATIONS: Final = _counter(
    "speculations_total",
    "Replies that were prepared at a pause, by what became of them; withheld ones were not allowed then.",
    outcome=SPECULATION_OUTCOMES,
)
WASTED_TOKENS: Final = _counter("wasted_tokens_total", "Tokens of replies that were prepared and thrown away.")
SAVED_TIME: Final = _counter(
    "saved_seconds_total", "How much sooner replies were heard because they had been prepared, all together."
)
UNDERRUN_TURNS: Final = _counter("underrun_turns_total", "Turns in whose reply the player ran dry at least once.")
DEGRADED_TURNS: Final = _counter(
    "degraded_turns_total",
    "Turns whose quality was lowered because the rooms had fallen behind, by how.",
    degradation=DEGRADATIONS,
)
DEGRADATION_LEVEL: Final = _gauge(
    "degradation_levels",
    "Levels of quality that this replica gives up to keep the audio flowing: 0 is nothing, 3 is all it can.",
)
TOOL_CALLS: Final = _counter(
    "tool_calls_total",
    "Calls of functions, by who ran them and how they ended; invalid ones could not be run.",
    executor=TOOL_EXECUTORS,
    outcome=TOOL_OUTCOMES,
)
TOOL_TIME: Final = _histogram(
    "tool_call_seconds", "From a call of a function to its end.", _TOOL_S, executor=TOOL_EXECUTORS[:-1]
)
ERRORS: Final = _counter(
    "errors_total", "Calls of the public API that ended with an error, by its reason.", reason=error_reasons()
)
STORE: Final = _histogram(
    "store_seconds", "Time of one request to the store.", _STORE_S, operation=STORE_OPERATIONS
)  # fmt: skip
AWAY_STORES: Final = _gauge(
    "away_stores", "1 while the store does not answer this replica or refuses it, so that its health is NOT_SERVING."
)
LOOP_LAG: Final = _histogram(
    "event_loop_lag_seconds", "How late the event loop that carries the audio wakes up.", _LOOP_S
)
LOOP_TASKS: Final = _gauge("event_loop_tasks", "Tasks of that event loop: more than sessions and calls need is a leak.")

ORCHESTRATOR_METRICS: Final = (
    OPEN_SESSIONS,
    ATTACHED_SESSIONS,
    DRAINING_SESSIONS,
    MAX_SESSIONS,
    BEGUN_SESSIONS,
    ENDED_STREAMS,
    ENDED_TURNS,
    FIRST_AUDIO,
    FIRST_AUDIO_PART,
    ROOM_FIRST_OUTPUT,
    ROOM_ANSWER,
    ROOM_REQUESTS,
    BARGE_IN_SILENCE,
    TOKENS,
    USER_AUDIO,
    REPLY_AUDIO,
    HEARD_AUDIO,
    UNDERRUNS,
    SPECULATIONS,
    WASTED_TOKENS,
    SAVED_TIME,
    UNDERRUN_TURNS,
    DEGRADED_TURNS,
    DEGRADATION_LEVEL,
    TOOL_CALLS,
    TOOL_TIME,
    ERRORS,
    STORE,
    AWAY_STORES,
    LOOP_LAG,
    LOOP_TASKS,
)

MODEL_REQUESTS: Final = _counter("requests_total", "Requests by how they ended.", outcome=REQUEST_OUTCOMES)
MODEL_COMPUTE: Final = _histogram(
    "compute_seconds", "Time of one pass over the network.",
    (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
)  # fmt: skip
MODEL_BATCH: Final = _histogram("batch_requests", "Requests that shared a pass.", (1.0, 2.0, 4.0, 8.0, 16.0, 32.0))
OPEN_REQUESTS: Final = _gauge("open_requests", "Replies that are waiting or being generated.")
MODEL_TOKENS: Final = _counter("tokens_total", "Tokens generated.")
OPEN_SEQUENCES: Final = _gauge("open_sequences", "Utterances that have begun and not ended.")
MODEL_AUDIO: Final = _counter("audio_seconds_total", "Audio taken in or made, in seconds of audio.")

_EVERY_MODEL: Final = (MODEL_REQUESTS, MODEL_COMPUTE, MODEL_BATCH)
_OWN: Final[Mapping[str, tuple[MetricSpec, ...]]] = {
    SPEECH_TOKENIZER.name: (OPEN_SEQUENCES, MODEL_AUDIO),
    STEP1_CHAT.name: (OPEN_REQUESTS, MODEL_TOKENS),
    STEP1_TTS.name: (OPEN_REQUESTS, MODEL_TOKENS),
    TOKEN_TO_WAVE.name: (MODEL_AUDIO,),
}

# A spoken reply plays 41.67 tokens a second: an interval above 24 ms falls behind it.
_TOKEN_S: Final = (0.002, 0.004, 0.006, 0.008, 0.012, 0.016, 0.024, 0.032, 0.048, 0.1, 0.2, 0.5, 1.0)
ENGINE_RUNNING: Final = _gauge("running_requests", "Replies in the engine's batch.")
ENGINE_WAITING: Final = _gauge("waiting_requests", "Replies that wait to join the engine's batch.")
ENGINE_CACHE: Final = _gauge("kv_cache_used_ratio", "Part of the key/value cache in use, 0 to 1.")
ENGINE_PREEMPTED: Final = _counter("preempted_requests_total", "Replies put back because the cache was full.")
ENGINE_PROMPT: Final = _counter("prompt_tokens_total", "Tokens of prompts, those found in the cache included.")
ENGINE_PREFIX_ASKED: Final = _counter("prefix_asked_tokens_total", "Tokens of prompts looked up in the cache.")
ENGINE_PREFIX_FOUND: Final = _counter("prefix_found_tokens_total", "Tokens of prompts found in the cache.")
ENGINE_QUEUE: Final = _histogram("queue_seconds", "From a request's arrival to its joining the batch.", _ROOM_S)
ENGINE_FIRST_TOKEN: Final = _histogram("first_token_seconds", "From a request's arrival to its first token.", _ROOM_S)
ENGINE_TOKEN: Final = _histogram("token_interval_seconds", "Between the tokens of a reply.", _TOKEN_S)

ENGINE_METRICS: Final = (
    ENGINE_RUNNING,
    ENGINE_WAITING,
    ENGINE_CACHE,
    ENGINE_PREEMPTED,
    ENGINE_PROMPT,
    ENGINE_PREFIX_ASKED,
    ENGINE_PREFIX_FOUND,
    ENGINE_QUEUE,
    ENGINE_FIRST_TOKEN,
    ENGINE_TOKEN,
)
"""What a language model has besides where vLLM is its engine; there nothing tells the time of single passes."""

MODEL_METRICS: Final[Mapping[str, tuple[MetricSpec, ...]]] = {
    model.name: (*_EVERY_MODEL, *_OWN.get(model.name, ())) for model in MODELS
}
"""What each Triton model has on its server's /metrics."""
