"""The four dashboards: what callers live through, the rooms, the GPUs, and capacity with its price.

conversation   is it good?          silence before replies and its parts, underruns, turns that fail
rooms          which room is it?    first output, queues, batches, failures; orchestrator and store
gpus           is it the hardware?  by DCGM's exporter
capacity       is it enough?        sessions, GPUs of each pool, price of an hour of conversation

A histogram is read by its quantiles over `$__rate_interval`; objectives are read as recorded by rules/objectives.yaml.
The dashboard of the rooms is made in rooms.py.
"""

from typing import Any, Final

from monitoring.expressions import HERE, OURS, mean, quantile, quantiles, rate
from monitoring.objectives import OBJECTIVES, ratio_series
from monitoring.panels import Entry, Panel, Query, Row, build
from monitoring.rooms import rooms

_PODS: Final = f'{HERE},resource=~"nvidia_com_.+"'
_FIRST: Final = f"{OURS}first_audio_seconds"
_SILENCED: Final = f"{OURS}barge_in_silence_seconds"
_EACH_GPU: Final = "GPU {{gpu}} {{Hostname}}"
_GPUS: Final = f"sum(kube_pod_container_resource_requests{{{_PODS}}})"
_ATTACHED: Final = f"sum({OURS}attached_sessions{{{HERE}}})"
_HOUR: Final = f"{_GPUS} * $gpu_hour_price"
_DEFAULT_GPU_HOUR_PRICE: Final = "2.5"


def dashboards() -> dict[str, dict[str, Any]]:
    """Every dashboard by the name of its file."""
    return {
        "conversation": _conversation(),
        "rooms": rooms(),
        "gpus": _gpus(),
        "capacity": _capacity(),
    }


def _conversation() -> dict[str, Any]:
    rows = (
        Row("Objectives", _conversation_objectives()),
        Row("Silence", _conversation_silence()),
        Row("Replies", _conversation_turns()),
        Row("Interruptions", _conversation_interruptions()),
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
            (Query(f"{rate(f'{OURS}errors_total', by='reason')} > 0", "{{reason}}"),),
            width=12,
        ),
        Panel(
            "How streams ended",
            "By the reason of their status.",
            "reqps",
            (Query(f"{rate(f'{OURS}ended_streams_total', by='reason')} > 0", "{{reason}}"),),
            width=12,
        ),
    )


def _conversation_speculation() -> tuple[Panel, ...]:
    return (
        Panel(
            "Prepared replies by outcome",
            "Committed ones were spoken; discarded ones met a user who went on; withheld ones were not allowed.",
            "reqps",
            (Query(rate(f"{OURS}speculations_total", by="outcome"), "{{outcome}}"),),
        ),
        Panel(
            "Sooner heard",
            "Mean time that a turn's silence was shorter because its reply had been prepared.",
            "s",
            (Query(f"{rate(f'{OURS}saved_seconds_total')} / {rate(f'{_FIRST}_count')}", "saved"),),
        ),
        Panel(
            "Thrown away",
            "Share of the language models' tokens that were made for replies nobody got.",
            "percentunit",
            (Query(f"{rate(f'{OURS}wasted_tokens_total')} / {rate(f'{OURS}tokens_total')}", "wasted"),),
        ),
    )


def _conversation_degradation() -> tuple[Panel, ...]:
    return (
        Panel(
            "Turns of lowered quality",
            "By what they did without, because the rooms had fallen behind; more capacity brings it back.",
            "reqps",
            (Query(rate(f"{OURS}degraded_turns_total", by="degradation"), "{{degradation}}"),),
            width=12,
        ),
        Panel(
            "Level of the governor",
            "The highest of all replicas: 0 gives up nothing, 3 all it can.",
            "short",
            (Query(f"max({OURS}degradation_levels{{{HERE}}})", "level"),),
            width=12,
        ),
    )


def _conversation_tools() -> tuple[Panel, ...]:
    return (
        Panel(
            "Calls of functions by outcome",
            "Invalid ones could not be run: the model wrote them wrongly, or no such function was declared.",
            "reqps",
            (
                Query(
                    f"{rate(f'{OURS}tool_calls_total', by='executor, outcome')} > 0",
                    "{{executor}} {{outcome}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Time of a call",
            "From the call to its end, by who runs it: the caller hears a notice meanwhile.",
            "s",
            (Query(quantile(0.95, f"{OURS}tool_call_seconds", by="executor"), "p95 {{executor}}"),),
            width=12,
        ),
    )


def _conversation_turns() -> tuple[Panel, ...]:
    return (
        Panel(
            "Turns by outcome",
            "Interrupted turns are people who spoke up, failed ones are errors.",
            "reqps",
            (Query(rate(f"{OURS}ended_turns_total", by="outcome"), "{{outcome}}"),),
        ),
        Panel(
            "Turns with an underrun",
            "Share of replies within which the player ran dry.",
            "percentunit",
            (Query(f"{rate(f'{OURS}underrun_turns_total')} / {rate(f'{_FIRST}_count')}", "underruns"),),
        ),
        Panel(
            "Heard of what was sent",
            "Below one, replies are cut by interruptions: their rest was made for nothing.",
            "percentunit",
            (
                Query(
                    f"{rate(f'{OURS}heard_audio_seconds_total')} / {rate(f'{OURS}reply_audio_seconds_total')}",
                    "heard",
                ),
            ),
        ),
    )


def _conversation_interruptions() -> tuple[Panel, ...]:
    return (
        Panel(
            "How long the agent speaks on",
            "From what interrupted it, behind the speech that has to be heard, to the word that silences the player.",
            "s",
            quantiles(_SILENCED),
            width=12,
        ),
        Panel(
            "Interruptions",
            "By reason: people who spoke into a reply, callers that stopped it, and callers that wrote a turn.",
            "reqps",
            (Query(rate(f"{_SILENCED}_count", by="reason"), "{{reason}}"),),
            width=12,
        ),
    )


def _conversation_silence() -> tuple[Panel, ...]:
    return (
        Panel(
            "Silence before the reply",
            "From the end of the user's turn to the first samples, of spoken turns.",
            "s",
            quantiles(_FIRST, 'origin="speech"'),
            width=12,
        ),
        Panel(
            "Where the silence went",
            "Mean of each part; the parts of a turn sum to the whole.",
            "s",
            (Query(mean(f"{OURS}first_audio_part_seconds", by="part"), "{{part}}"),),
            width=12,
        ),
    )


def _conversation_objectives() -> tuple[Panel, ...]:
    return tuple(
        Panel(
            f"Bad {objective.counted} in an hour: {objective.key.replace('_', ' ')}",
            f"Share of {objective.counted} in which {objective.broken}. The objective is {1 - objective.target:.1%} "
            "at most.",
            "percentunit",
            (Query(f"max({ratio_series(objective, '1h')}{{{HERE}}})", ""),),
            width=6,
            is_number=True,
        )
        for objective in OBJECTIVES
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
            (Query(f"{_HOUR} / {rate(f'{OURS}heard_audio_seconds_total')}", "by replies that were heard"),),
            width=12,
        ),
    )


def _capacity_work() -> tuple[Panel, ...]:
    return (
        Panel(
            "Tokens a second",
            "Read and written by the language models.",
            "short",
            (Query(rate(f"{OURS}tokens_total", by="kind"), "{{kind}}"),),
        ),
        Panel(
            "Audio a second",
            "Seconds of speech per second, of users and of replies: conversations that really speak.",
            "short",
            (
                Query(rate(f"{OURS}user_audio_seconds_total"), "users"),
                Query(rate(f"{OURS}reply_audio_seconds_total"), "replies"),
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
                Query(f"sum({OURS}open_sessions{{{HERE}}})", "open"),
                Query(_ATTACHED, "with a client"),
                Query(f"sum({OURS}max_sessions{{{HERE}}})", "at most"),
            ),
        ),
        Panel(
            "Begun",
            "New sessions and resumed ones; many resumed ones are a sign of lost connections.",
            "reqps",
            (Query(rate(f"{OURS}begun_sessions_total", by="how"), "{{how}}"),),
        ),
        Panel(
            "Refused or leaving",
            "Callers that were refused for want of room, and sessions that a draining replica still has.",
            "short",
            (
                Query(
                    rate(f"{OURS}errors_total", by="reason", where='reason=~"OVERLOADED|QUOTA_EXCEEDED"'),
                    "{{reason}}",
                ),
                Query(f"sum({OURS}draining_sessions{{{HERE}}})", "draining"),
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
