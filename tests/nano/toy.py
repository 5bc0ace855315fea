"""A working folder with a few seconds of made-up speech: enough for every stage to run its course."""

from pathlib import Path

import numpy as np
import pytest

from services.nano import speech
from services.nano.alignment import TimedSpeech
from services.nano.domain import build_domain
from services.nano.plan import ASSISTANT_VOICES, Utterance, build_plan
from services.nano.pronunciation import write_pronunciations

RATE_HZ = 24_000
_SYMBOLS = ("_", "h", "ə", "l", "O", "w", "ɜ", "l", "d", "_")


def sound(utterance: Utterance) -> TimedSpeech:
    """One and a half seconds: a hum whose pitch and colour belong to the text, between two silences."""
    rng = np.random.default_rng(int(utterance.identity[:8], 16))
    time_s = np.arange(round(1.3 * RATE_HZ)) / RATE_HZ
    pitch_hz = rng.uniform(90, 220)
    hum = sum(np.sin(2 * np.pi * pitch_hz * k * time_s) * rng.uniform(0.02, 0.2) for k in range(1, 12))
    quiet = np.zeros(round(0.1 * RATE_HZ))
    samples = np.concatenate([quiet, np.asarray(hum), quiet]).astype(np.float32)
    inner = np.linspace(len(quiet), len(samples) - len(quiet), len(_SYMBOLS) - 1).astype(int)
    return TimedSpeech(samples, RATE_HZ, _SYMBOLS, (*map(int, inner), len(samples)))


def chosen_plan() -> list[Utterance]:
    """Some utterances of each kind and of both assistant voices."""
    plan = build_plan(build_domain())
    chosen = [utterance for utterance in plan if utterance.kind == "espeak"][:8]
    chosen += [utterance for utterance in plan if utterance.kind == "user"][:8]
    for voice in ASSISTANT_VOICES:
        own = [u for u in plan if u.kind == "assistant" and u.round == 0 and not u.style]
        chosen += [u for u in own if getattr(u.delivery, "voices", ())[:1] == ((voice, 1.0),)][:8]
    return chosen


@pytest.fixture(scope="session")
def spoken_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder, with its recordings made."""
    work = tmp_path_factory.mktemp("nano")
    speech.speak_all(chosen_plan(), work, sound, pause_file=work / "none")
    write_pronunciations(build_domain().words, work, lambda word: word)
    return work
