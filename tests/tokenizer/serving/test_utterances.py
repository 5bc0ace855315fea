"""Utterances are kept while they are spoken, and forgotten when their caller has died."""

from typing import cast

import pytest

from services.tokenizer.serving.utterances import Utterance, Utterances
from services.tokenizer.speech_tokenizer import TokenizerState

pytestmark = pytest.mark.unit

BEGUN = Utterance.begin(cast(TokenizerState, None))  # the store never looks into a state


def test_an_utterance_without_requests_for_too_long_is_forgotten_and_others_stay() -> None:
    now_s = 0.0
    utterances = Utterances(idle_s=60, clock=lambda: now_s)
    utterances.put("dead", BEGUN)
    utterances.put("alive", BEGUN)
    now_s = 50.0
    utterances.put("alive", BEGUN)
    utterances.drop_idle()
    assert len(utterances) == 2
    now_s = 61.0
    utterances.drop_idle()
    assert utterances.get("dead") is None
    assert utterances.get("alive") is BEGUN


def test_an_ended_utterance_is_forgotten_and_an_unknown_one_may_be_dropped() -> None:
    utterances = Utterances(idle_s=60)
    utterances.put("a", BEGUN)
    utterances.drop("a")
    utterances.drop("never begun")
    assert len(utterances) == 0
