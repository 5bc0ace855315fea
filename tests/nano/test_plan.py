"""The plan keeps held-out voices and phrasings away from training, and is stable under change."""

import dataclasses

import pytest

from services.nano.domain import Domain, build_domain
from services.nano.kokoro import Delivery
from services.nano.plan import ASSISTANT_VOICES, HELD_OUT_VOICES, Utterance, build_plan

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def domain() -> Domain:
    return build_domain()


@pytest.fixture(scope="module")
def plan(domain: Domain) -> list[Utterance]:
    return build_plan(domain)


def _voices(utterance: Utterance) -> set[str]:
    delivery = utterance.delivery
    return {name for name, _ in delivery.voices} if isinstance(delivery, Delivery) else {delivery.voice}


def test_held_out_voices_and_phrasings_are_spoken_for_evaluation_only(plan: list[Utterance], domain: Domain) -> None:
    held_texts = domain.held_out | set(domain.held_out_sentences)
    replies = {utterance.text for utterance in plan if utterance.kind == "assistant"}
    for utterance in plan:
        if utterance.kind != "evaluation":
            assert not _voices(utterance) & set(HELD_OUT_VOICES), utterance
            assert utterance.text not in held_texts - replies, utterance


def test_whatever_is_heard_in_training_is_known_to_the_domain(plan: list[Utterance], domain: Domain) -> None:
    said = {utterance.text for utterance in plan if utterance.kind in {"user", "espeak", "everyday"}}
    assert said <= set(domain.texts_to_hear)
    assert len(said) > 0.5 * len(domain.texts_to_hear)


def test_other_ways_to_ask_and_wrong_words_are_heard_repetitions_in_drills_alone(
    plan: list[Utterance], domain: Domain
) -> None:
    asked = {item.question: item.intent for item in (*domain.items, *domain.rephrased)}
    ways = {item.question for item in domain.rephrased} - {item.question for item in domain.items}
    for kind, fewest in (("espeak", 10_000), ("user", 500)):
        said = {utterance.text for utterance in plan if utterance.kind == kind}
        assert len(said & ways) >= fewest
        assert "repeat" not in {asked[text] for text in said & ways}
        assert len(said.intersection(domain.substitutions)) >= min(fewest / 2, len(domain.substitutions))


def test_every_repetition_is_said_in_both_voices_and_none_in_a_style(plan: list[Utterance], domain: Domain) -> None:
    repetitions = {item.reply for item in domain.items if item.intent == "repeat"}
    assert len(repetitions) > 500
    said = [utterance for utterance in plan if utterance.kind == "assistant" and utterance.text in repetitions]
    assert {(u.text, voice) for u in said for voice in _voices(u)} == {
        (text, voice) for text in repetitions for voice in ASSISTANT_VOICES
    }
    assert not any(utterance.style for utterance in said)


def test_users_never_speak_with_an_assistants_voice(plan: list[Utterance]) -> None:
    for utterance in plan:
        voices = _voices(utterance)
        if utterance.kind == "user":
            assert not voices & set(ASSISTANT_VOICES)
        if utterance.kind in {"assistant", "everyday"}:
            assert voices <= set(ASSISTANT_VOICES)


def test_the_plan_is_large_enough(plan: list[Utterance]) -> None:
    questions = [utterance for utterance in plan if utterance.kind == "user"]
    assert len(questions) >= 4000
    assert len({name for utterance in questions for name in _voices(utterance)}) >= 30
    first, second = ASSISTANT_VOICES
    assert {u.text for u in plan if u.kind == "assistant" and _voices(u) == {first}} == {
        u.text for u in plan if u.kind == "assistant" and _voices(u) == {second}
    }


def test_weights_of_a_mix_sum_to_one(plan: list[Utterance]) -> None:
    for utterance in plan:
        if isinstance(utterance.delivery, Delivery):
            assert sum(weight for _, weight in utterance.delivery.voices) == pytest.approx(1.0)


def test_no_utterance_is_planned_twice(plan: list[Utterance]) -> None:
    assert len({utterance.identity for utterance in plan}) == len(plan)


def test_a_new_text_changes_no_other_training_utterance(plan: list[Utterance], domain: Domain) -> None:
    item = dataclasses.replace(domain.items[0], question="Something new?")
    grown = build_plan(dataclasses.replace(domain, items=(item, *domain.items)))
    before = {utterance.identity for utterance in plan if utterance.kind != "evaluation"}
    assert before <= {utterance.identity for utterance in grown}
