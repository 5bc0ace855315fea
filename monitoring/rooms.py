"""The dashboard of the rooms: which of them makes conversations wait, and by what."""

from typing import Any, Final

from monitoring.expressions import HERE, OURS, mean, quantile, rate
from monitoring.panels import Panel, Query, Row, build
from services.shared.triton.specs import MODELS, STEP1_CHAT, STEP1_TTS

_LANGUAGE_MODELS: Final = {STEP1_CHAT.name: "chat", STEP1_TTS.name: "speech"}
_MODELS: Final = [model.name for model in MODELS]


def rooms() -> dict[str, Any]:
    """The dashboard of the rooms and of what is around them."""
    rows = (
        Row("As the orchestrator sees them", _rooms_seen()),
        Row("Waiting", _rooms_waiting()),
        Row("Computing", _rooms_computing()),
        Row("Language models on vLLM", _rooms_engines()),
        Row("Around them", _rooms_around()),
    )
    return build("stepaudio-rooms", "Step-Audio: rooms", "Which room makes conversations wait?", rows)


def _rooms_around() -> tuple[Panel, ...]:
    return (
        Panel(
            "Event loop of the orchestrator",
            "How late it wakes up, 99 of 100 times less. A frame of audio lasts 20 ms.",
            "s",
            (Query(quantile(0.99, f"{OURS}event_loop_lag_seconds", by="instance"), "{{instance}}"),),
        ),
        Panel(
            "Requests to the store",
            "99 of 100 take less.",
            "s",
            (Query(quantile(0.99, f"{OURS}store_seconds", by="operation"), "{{operation}}"),),
        ),
        Panel(
            "Memory of Redis",
            "Share of the limit; writes are refused above it.",
            "percentunit",
            (Query(f"redis_memory_used_bytes{{{HERE}}} / (redis_memory_max_bytes{{{HERE}}} > 0)", "{{instance}}"),),
        ),
    )


def _rooms_computing() -> tuple[Panel, ...]:
    return (
        Panel(
            "One pass",
            "95 of 100 passes over the network take less.",
            "s",
            tuple(Query(quantile(0.95, f"stepaudio_{name}_compute_seconds"), name) for name in _MODELS),
        ),
        Panel(
            "Requests that share a pass",
            "Mean size of a batch; more at the same time of a pass is cheaper.",
            "short",
            tuple(Query(mean(f"stepaudio_{name}_batch_requests"), name) for name in _MODELS),
        ),
        Panel(
            "Failures",
            "Share of requests that failed by the room's own fault.",
            "percentunit",
            (Query(f"stepaudio:room_failures:ratio{{{HERE}}}", "{{model}}"),),
        ),
    )


def _rooms_engines() -> tuple[Panel, ...]:
    def of_each(gauge: str) -> tuple[Query, ...]:
        return tuple(
            Query(f"stepaudio_{name}_{gauge}{{{HERE}}}", f"{said} {{{{instance}}}}")
            for name, said in _LANGUAGE_MODELS.items()
        )

    def rates(counter: str, *, by: str = "") -> tuple[str, ...]:
        return tuple(rate(f"stepaudio_{name}_{counter}_total", by=by) for name in _LANGUAGE_MODELS)

    found, asked = rates("prefix_found_tokens"), rates("prefix_asked_tokens")
    return (
        Panel(
            "KV cache in use",
            "Share of each server's cache; at one, replies wait or are put back.",
            "percentunit",
            of_each("kv_cache_used_ratio"),
        ),
        Panel("Waiting for the batch", "Replies that the engine has not begun.", "short", of_each("waiting_requests")),
        Panel("In the batch", "Replies that are generated at once.", "short", of_each("running_requests")),
        Panel(
            "Put back",
            "Replies that lost their cache and are computed anew, as it was full.",
            "reqps",
            tuple(
                Query(rate, f"{said} {{{{instance}}}}")
                for rate, said in zip(
                    rates("preempted_requests", by="instance"), _LANGUAGE_MODELS.values(), strict=True
                )
            ),
        ),
        Panel(
            "Prompts found in the cache",
            "Share of the tokens of prompts that had been read before.",
            "percentunit",
            tuple(
                Query(f"{one} / {all_}", said)
                for one, all_, said in zip(found, asked, _LANGUAGE_MODELS.values(), strict=True)
            ),
        ),
        Panel(
            "Between two tokens",
            "95 of 100 intervals are shorter; speech is heard at one in 24 ms.",
            "s",
            tuple(
                Query(quantile(0.95, f"stepaudio_{name}_token_interval_seconds"), said)
                for name, said in _LANGUAGE_MODELS.items()
            ),
        ),
    )


def _rooms_waiting() -> tuple[Panel, ...]:
    return (
        Panel(
            "Queue",
            "Mean wait in Triton's queue before a request is computed.",
            "s",
            (Query(f"stepaudio:room_queue:seconds_mean{{{HERE}}}", "{{model}}"),),
        ),
        Panel(
            "Open requests",
            "Replies that wait or are generated, and utterances that have begun, on each server.",
            "short",
            (
                Query(f"stepaudio_step1_chat_open_requests{{{HERE}}}", "chat {{instance}}"),
                Query(f"stepaudio_step1_tts_open_requests{{{HERE}}}", "speech {{instance}}"),
                Query(f"stepaudio_speech_tokenizer_open_sequences{{{HERE}}}", "utterances {{instance}}"),
            ),
        ),
        Panel(
            "Pending in Triton",
            "Requests that Triton has taken and not given to a model yet.",
            "short",
            (
                Query(
                    f"sum by (model, instance) (nv_inference_pending_request_count{{{HERE}}})",
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
            (Query(quantile(0.95, f"{OURS}room_first_output_seconds", by="room"), "{{room}}"),),
        ),
        Panel(
            "Whole answer, 95 of 100 turns",
            "From asking a room to the end of its answers, all of a turn together.",
            "s",
            (Query(quantile(0.95, f"{OURS}room_answer_seconds", by="room"), "{{room}}"),),
        ),
        Panel(
            "Requests",
            "Of the orchestrator to each room.",
            "reqps",
            (Query(rate(f"{OURS}room_requests_total", by="room"), "{{room}}"),),
        ),
    )
