"""The four dashboards: what callers live through, the rooms, the GPUs, and capacity with its price.

conversation   is it good?          silence before replies and its parts, underruns, turns that fail
rooms          which room is it?    first output, queues, batches, failures; orchestrator and store
gpus           is it the hardware?  by DCGM's exporter
capacity       is it enough?        sessions, GPUs of each pool, price of an hour of conversation

A histogram is read by its quantiles over `$__rate_interval`; objectives are read as recorded by rules/objectives.yaml.
"""

from typing import Any, Final

from monitoring.objectives import OBJECTIVES, ratio_series
from monitoring.panels import Entry, Panel, Query, Row, build
from services.shared.triton.specs import MODELS

_HERE: Final = 'namespace=~"$namespace"'
_RANGE: Final = "$__rate_interval"
_O: Final = "stepaudio_orchestrator_"
_PODS: Final = f'{_HERE},resource=~"nvidia_com_.+"'
_FIRST: Final = f"{_O}first_audio_seconds"
_MODELS: Final = [model.name for model in MODELS]
_EACH_GPU: Final = "GPU {{gpu}} {{Hostname}}"
_GPUS: Final = f"sum(kube_pod_container_resource_requests{{{_PODS}}})"
_ATTACHED: Final = f"sum({_O}attached_sessions{{{_HERE}}})"
_HOUR: Final = f"{_GPUS} * $gpu_hour_price"
_DEFAULT_GPU_HOUR_PRICE: Final = "2.5"


def dashboards() -> dict[str, dict[str, Any]]:
    """Every dashboard by the name of its file."""
    return {
        "conversation": _conversation(),
        "rooms": _rooms(),
        "gpus": _gpus(),
        "capacity": _capacity(),
    }


def _rate(metric: str, *, by: str = "", where: str = "") -> str:
    matchers = ",".join(filter(None, (_HERE, where)))
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{matchers}}}[{_RANGE}]))"


def _quantile(share: float, metric: str, *, by: str = "", where: str = "") -> str:
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, {_rate(f'{metric}_bucket', by=labels, where=where)})"


def _quantiles(metric: str, where: str = "") -> tuple[Query, ...]:
    return tuple(Query(_quantile(share, metric, where=where), f"p{round(share * 100)}") for share in (0.5, 0.95, 0.99))


def _mean(metric: str, *, by: str = "") -> str:
    return f"{_rate(f'{metric}_sum', by=by)} / {_rate(f'{metric}_count', by=by)}"


def _conversation() -> dict[str, Any]:
    rows = (
        Row("Objectives", _conversation_objectives()),
        Row("Silence", _conversation_silence()),
        Row("Replies", _conversation_turns()),
        Row("Quality given up", _conversation_degradation()),
        Row("Prepared at a pause", _conversation_speculation()),
        Row("Functions", _conversation_tools()),
        Row("Errors", _conversation_ends()),
    )
    return build("stepaudio-conversation", "Step-Audio: conversations", "Is it good for those who speak?", rows)


def _conversation_ends() -> tuple[Panel, ...]:
    return (
        Panel(
            "Errors that callers were told",
            "By reason; those of invalid input are the callers' own.",
            "reqps",
            (Query(f"{_rate(f'{_O}errors_total', by='reason')} > 0", "{{reason}}"),),
            width=12,
        ),
        Panel(
            "How streams ended",
            "By the reason of their status.",
            "reqps",
            (Query(f"{_rate(f'{_O}ended_streams_total', by='reason')} > 0", "{{reason}}"),),
            width=12,
        ),
    )


def _conversation_speculation() -> tuple[Panel, ...]:
    return (
        Panel(
            "Prepared replies by outcome",
            "Committed ones were spoken; discarded ones met a user who went on; withheld ones were not allowed.",
            "reqps",
            (Query(_rate(f"{_O}speculations_total", by="outcome"), "{{outcome}}"),),
        ),
        Panel(
            "Sooner heard",
            "Mean time that a turn's silence was shorter because its reply had been prepared.",
            "s",
            (Query(f"{_rate(f'{_O}saved_seconds_total')} / {_rate(f'{_FIRST}_count')}", "saved"),),
        ),
        Panel(
            "Thrown away",
            "Share of the language models' tokens that were made for replies nobody got.",
            "percentunit",
            (Query(f"{_rate(f'{_O}wasted_tokens_total')} / {_rate(f'{_O}tokens_total')}", "wasted"),),
        ),
    )


def _conversation_degradation() -> tuple[Panel, ...]:
    return (
        Panel(
            "Turns of lowered quality",
            "By what they did without, because the rooms had fallen behind; more capacity brings it back.",
            "reqps",
            (Query(_rate(f"{_O}degraded_turns_total", by="degradation"), "{{degradation}}"),),
            width=12,
        ),
        Panel(
            "Level of the governor",
            "The highest of all replicas: 0 gives up nothing, 3 all it can.",
            "short",
            (Query(f"max({_O}degradation_levels{{{_HERE}}})", "level"),),
            width=12,
        ),
    )


def _conversation_tools() -> tuple[Panel, ...]:
    return (
        Panel(
            "Calls of functions by outcome",
            "Invalid ones could not be run: the model wrote them wrongly, or no such function was declared.",
            "reqps",
            (Query(f"{_rate(f'{_O}tool_calls_total', by='executor, outcome')} > 0", "{{executor}} {{outcome}}"),),
            width=12,
        ),
        Panel(
            "Time of a call",
            "From the call to its end, by who runs it: the caller hears a notice meanwhile.",
            "s",
            (Query(_quantile(0.95, f"{_O}tool_call_seconds", by="executor"), "p95 {{executor}}"),),
            width=12,
        ),
    )


def _conversation_turns() -> tuple[Panel, ...]:
    return (
        Panel(
            "Turns by outcome",
            "Interrupted turns are people who spoke up, failed ones are errors.",
            "reqps",
            (Query(_rate(f"{_O}ended_turns_total", by="outcome"), "{{outcome}}"),),
        ),
        Panel(
            "Turns with an underrun",
            "Share of replies within which the player ran dry.",
            "percentunit",
            (Query(f"{_rate(f'{_O}underrun_turns_total')} / {_rate(f'{_FIRST}_count')}", "underruns"),),
        ),
        Panel(
            "Heard of what was sent",
            "Below one, replies are cut by interruptions: their rest was made for nothing.",
            "percentunit",
            (Query(f"{_rate(f'{_O}heard_audio_seconds_total')} / {_rate(f'{_O}reply_audio_seconds_total')}", "heard"),),
        ),
    )


def _conversation_silence() -> tuple[Panel, ...]:
    return (
        Panel(
            "Silence before the reply",
            "From the end of the user's turn to the first samples, of spoken turns.",
            "s",
            _quantiles(_FIRST, 'origin="speech"'),
            width=12,
        ),
        Panel(
            "Where the silence went",
            "Mean of each part; the parts of a turn sum to the whole.",
            "s",
            (Query(_mean(f"{_O}first_audio_part_seconds", by="part"), "{{part}}"),),
            width=12,
        ),
    )


def _conversation_objectives() -> tuple[Panel, ...]:
    return tuple(
        Panel(
            f"Bad turns in an hour: {objective.key.replace('_', ' ')}",
            f"Share of turns in which {objective.broken}. The objective is {1 - objective.target:.1%} at most.",
            "percentunit",
            (Query(f"max({ratio_series(objective, '1h')}{{{_HERE}}})", ""),),
            is_number=True,
        )
        for objective in OBJECTIVES
    )


def _rooms() -> dict[str, Any]:
    rows = (
        Row("As the orchestrator sees them", _rooms_seen()),
        Row("Waiting", _rooms_waiting()),
        Row("Computing", _rooms_computing()),
        Row("Around them", _rooms_around()),
    )
    return build("stepaudio-rooms", "Step-Audio: rooms", "Which room makes conversations wait?", rows)


def _rooms_around() -> tuple[Panel, ...]:
    return (
        Panel(
            "Event loop of the orchestrator",
            "How late it wakes up, 99 of 100 times less. A frame of audio lasts 20 ms.",
            "s",
            (Query(_quantile(0.99, f"{_O}event_loop_lag_seconds", by="instance"), "{{instance}}"),),
        ),
        Panel(
            "Requests to the store",
            "99 of 100 take less.",
            "s",
            (Query(_quantile(0.99, f"{_O}store_seconds", by="operation"), "{{operation}}"),),
        ),
        Panel(
            "Memory of Redis",
            "Share of the limit; writes are refused above it.",
            "percentunit",
            (Query(f"redis_memory_used_bytes{{{_HERE}}} / (redis_memory_max_bytes{{{_HERE}}} > 0)", "{{instance}}"),),
        ),
    )


def _rooms_computing() -> tuple[Panel, ...]:
    return (
        Panel(
            "One pass",
            "95 of 100 passes over the network take less.",
            "s",
            tuple(Query(_quantile(0.95, f"stepaudio_{name}_compute_seconds"), name) for name in _MODELS),
        ),
        Panel(
            "Requests that share a pass",
            "Mean size of a batch; more at the same time of a pass is cheaper.",
            "short",
            tuple(Query(_mean(f"stepaudio_{name}_batch_requests"), name) for name in _MODELS),
        ),
        Panel(
            "Failures",
            "Share of requests that failed by the room's own fault.",
            "percentunit",
            (Query(f"stepaudio:room_failures:ratio{{{_HERE}}}", "{{model}}"),),
        ),
    )


def _rooms_waiting() -> tuple[Panel, ...]:
    return (
        Panel(
            "Queue",
            "Mean wait in Triton's queue before a request is computed.",
            "s",
            (Query(f"stepaudio:room_queue:seconds_mean{{{_HERE}}}", "{{model}}"),),
        ),
        Panel(
            "Open requests",
            "Replies that wait or are generated, and utterances that have begun, on each server.",
            "short",
            (
                Query(f"stepaudio_step1_chat_open_requests{{{_HERE}}}", "chat {{instance}}"),
                Query(f"stepaudio_step1_tts_open_requests{{{_HERE}}}", "speech {{instance}}"),
                Query(f"stepaudio_speech_tokenizer_open_sequences{{{_HERE}}}", "utterances {{instance}}"),
            ),
        ),
        Panel(
            "Pending in Triton",
            "Requests that Triton has taken and not given to a model yet.",
            "short",
            (
                Query(
                    f"sum by (model, instance) (nv_inference_pending_request_count{{{_HERE}}})",
                    "{{model}} {{instance}}",
                ),
            ),
        ),
    )


def _rooms_seen() -> tuple[Panel, ...]:
    return (
        Panel(
            "First output, 95 of 100 turns",
            "From a turn's first request to a room to its first output, as the orchestrator sees it.",
            "s",
            (Query(_quantile(0.95, f"{_O}room_first_output_seconds", by="room"), "{{room}}"),),
        ),
        Panel(
            "Whole answer, 95 of 100 turns",
            "From asking a room to the end of its answers, all of a turn together.",
            "s",
            (Query(_quantile(0.95, f"{_O}room_answer_seconds", by="room"), "{{room}}"),),
        ),
        Panel(
            "Requests",
            "Of the orchestrator to each room.",
            "reqps",
            (Query(_rate(f"{_O}room_requests_total", by="room"), "{{room}}"),),
        ),
    )


def _gpus() -> dict[str, Any]:
    text = "Is it the hardware? GPUs of the whole cluster, as DCGM's exporter does not know of releases."
    return build("stepaudio-gpus", "Step-Audio: GPUs", text, (Row("Work", _gpus_work()), Row("Health", _gpus_health())))


def _gpus_health() -> tuple[Panel, ...]:
    return (
        Panel("Power", "Draw of each GPU.", "watt", (Query("DCGM_FI_DEV_POWER_USAGE", _EACH_GPU),), width=6),
        Panel(
            "Temperature",
            "Clocks fall when it is hot.",
            "celsius",
            (Query("DCGM_FI_DEV_GPU_TEMP", _EACH_GPU),),
            width=6,
        ),
        Panel("Clock", "Of the multiprocessors.", "hertz", (Query("DCGM_FI_DEV_SM_CLOCK * 1e6", _EACH_GPU),), width=6),
        Panel(
            "Last fault",
            "XID of the driver; 0 is none.",
            "none",
            (Query("DCGM_FI_DEV_XID_ERRORS", _EACH_GPU),),
            width=6,
        ),
    )


def _gpus_work() -> tuple[Panel, ...]:
    return (
        Panel("Busy", "Share of time in which a kernel ran.", "percent", (Query("DCGM_FI_DEV_GPU_UTIL", _EACH_GPU),)),
        Panel(
            "Memory",
            "Share in use. The engine of the language models takes its KV cache at the start, so that it is level.",
            "percentunit",
            (Query("stepaudio:gpu_memory:used_ratio", _EACH_GPU),),
        ),
        Panel(
            "NVLink",
            "Traffic between GPUs: tensor parallel work of the chat model.",
            "short",
            (Query("rate(DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL[$__rate_interval])", _EACH_GPU),),
        ),
    )


def _capacity() -> dict[str, Any]:
    rows = (
        Row("Now", _capacity_now()),
        Row("Sessions", _capacity_sessions()),
        Row("Work", _capacity_work()),
        Row("Price", _capacity_cost()),
    )
    price = Entry("gpu_hour_price", "Price of a GPU hour", _DEFAULT_GPU_HOUR_PRICE)
    text = "Is it enough, and what does an hour of conversation cost?"
    return build("stepaudio-capacity", "Step-Audio: capacity and price", text, rows, entries=(price,))


def _capacity_cost() -> tuple[Panel, ...]:
    return (
        Panel(
            "Price of an hour of conversation",
            "GPUs times the price of a GPU hour, by conversations; idle GPUs make it dear.",
            "currencyUSD",
            (Query(f"{_HOUR} / {_ATTACHED}", "by conversations now"),),
            width=12,
        ),
        Panel(
            "Price of an hour of reply",
            "The same by what was really spoken to somebody.",
            "currencyUSD",
            (Query(f"{_HOUR} / {_rate(f'{_O}heard_audio_seconds_total')}", "by replies that were heard"),),
            width=12,
        ),
    )


def _capacity_work() -> tuple[Panel, ...]:
    return (
        Panel(
            "Tokens a second",
            "Read and written by the language models.",
            "short",
            (Query(_rate(f"{_O}tokens_total", by="kind"), "{{kind}}"),),
        ),
        Panel(
            "Audio a second",
            "Seconds of speech per second, of users and of replies: conversations that really speak.",
            "short",
            (
                Query(_rate(f"{_O}user_audio_seconds_total"), "users"),
                Query(_rate(f"{_O}reply_audio_seconds_total"), "replies"),
            ),
        ),
        Panel(
            "GPUs of each container",
            "That pods ask for.",
            "short",
            (Query(f"sum by (namespace, pod) (kube_pod_container_resource_requests{{{_PODS}}})", "{{pod}}"),),
        ),
    )


def _capacity_sessions() -> tuple[Panel, ...]:
    return (
        Panel(
            "Sessions",
            "Open ones (also those that wait for their client), with a client, and as many as replicas take.",
            "short",
            (
                Query(f"sum({_O}open_sessions{{{_HERE}}})", "open"),
                Query(_ATTACHED, "with a client"),
                Query(f"sum({_O}max_sessions{{{_HERE}}})", "at most"),
            ),
        ),
        Panel(
            "Begun",
            "New sessions and resumed ones; many resumed ones are a sign of lost connections.",
            "reqps",
            (Query(_rate(f"{_O}begun_sessions_total", by="how"), "{{how}}"),),
        ),
        Panel(
            "Refused or leaving",
            "Callers that were refused for want of room, and sessions that a draining replica still has.",
            "short",
            (
                Query(
                    _rate(f"{_O}errors_total", by="reason", where='reason=~"OVERLOADED|QUOTA_EXCEEDED"'), "{{reason}}"
                ),
                Query(f"sum({_O}draining_sessions{{{_HERE}}})", "draining"),
            ),
        ),
    )


def _capacity_now() -> tuple[Panel, ...]:
    return (
        Panel("Conversations now", "Sessions with a client.", "short", (Query(_ATTACHED, ""),), is_number=True),
        Panel("GPUs", "That pods of the namespace ask for.", "short", (Query(_GPUS, ""),), is_number=True),
        Panel(
            "Price of an hour of conversation",
            "GPUs times the price of a GPU hour, by conversations now.",
            "currencyUSD",
            (Query(f"{_HOUR} / {_ATTACHED}", ""),),
            is_number=True,
        ),
    )
