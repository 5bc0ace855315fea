"""What is to be spoken, by which voice, and in which order: the list that the stage `speech` works through.

Decides: the assistant's two voices, the users' voices and mixes, the held-out voices, renditions, styles and priority.
Every draw depends on the utterance alone (its text, kind and round), so a changed text changes no other utterance.
Refuses to know: how speech is made and where it is kept.
"""

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal

from services.nano.domain import Domain, spoken_text, style_of
from services.nano.kokoro import Delivery

SEED: Final = 20_261
ASSISTANT_VOICES: Final = ("af_heart", "am_michael")
HELD_OUT_VOICES: Final = ("bf_emma", "am_puck")
# The clear English voices that nobody else uses: no whisper (af_nicole), no Santa.
USER_VOICES: Final = (
    *("af_alloy", "af_aoede", "af_bella", "af_jessica", "af_kore", "af_nova", "af_river", "af_sarah", "af_sky"),
    *("am_adam", "am_echo", "am_eric", "am_fenrir", "am_liam", "am_onyx", "bf_alice", "bf_isabella", "bf_lily"),
    *("bm_daniel", "bm_fable", "bm_george", "bm_lewis"),
)
MIX_VOICES: Final = (
    *USER_VOICES,
    *("ef_dora", "em_alex", "ff_siwis", "hf_alpha", "hf_beta", "hm_omega", "hm_psi", "if_sara", "im_nicola"),
    *("jf_alpha", "jm_kumo", "pf_dora", "pm_alex", "zf_xiaobei", "zm_yunjian", "af_nicole", "am_santa"),
)
# Voices are filled in; "happy" is a little faster, higher and livelier.
STYLES: Final = {
    "": Delivery(()),
    "fast": Delivery((), speed=1.35, pitch_gain=1.02),
    "slow": Delivery((), speed=0.72, pitch_gain=0.98, pitch_range=0.95),
    "happy": Delivery((), speed=1.06, pitch_gain=1.12, pitch_range=1.4),
}
ESPEAK_ACCENTS: Final = (
    *("gmw/en", "gmw/en-US", "gmw/en-GB-scotland", "gmw/en-GB-x-rp", "gmw/en-GB-x-gbclan", "gmw/en-GB-x-gbcwmd"),
)
ESPEAK_VARIANTS: Final = ("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7")

USER_ROUNDS: Final = 3
USER_REPHRASED: Final = 600
USER_DRILLS: Final = 600
USER_SUBSTITUTIONS: Final = 300
DRILL_REPLIES: Final = 400
SUM_REPLIES: Final = 150
STYLED_REPLIES: Final = 120
USER_SENTENCES: Final = 800
EVALUATION_ITEMS: Final = 130

Kind = Literal["assistant", "user", "espeak", "everyday", "evaluation"]


@dataclass(frozen=True, slots=True)
class EspeakDelivery:
    """How espeak-ng says a sentence."""

    voice: str
    words_per_minute: int
    pitch: int


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording to make.

    Attributes:
        kind: what it is for: "assistant" replies, "user" questions by Kokoro, the same by "espeak", "everyday"
            sentences in the assistant's voices; "evaluation" is never trained on.
        text: what is said.
        style: "", "fast", "slow" or "happy".
        round: which rendition of this text.
        delivery: voice, speed, pitch.
    """

    kind: Kind
    text: str
    style: str
    round: int
    delivery: Delivery | EspeakDelivery

    @property
    def identity(self) -> str:
        """A name that changes whenever the recording would."""
        data = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(data.encode()).hexdigest()[:20]


def build_plan(domain: Domain, seed: int = SEED) -> list[Utterance]:
    """All utterances, most urgent first, without repeats."""
    plan: list[Utterance] = []
    trained = [question for question in domain.spoken_questions if question not in domain.held_out]
    replies = _replies(domain, seed)
    spoken = [*replies, *dict.fromkeys((item.reply, "") for item in domain.items if item.intent == "repeat")]
    for number in range(USER_ROUNDS):
        plan += [_espeak(text, number, seed) for text in trained]
    drills = [drill.question for drill in domain.drills]
    rephrased = _rephrased(domain, seed)
    plan += [_espeak(text, 0, seed) for text in (*drills, *domain.sentences, *rephrased, *domain.substitutions)]
    plan += [_assistant("assistant", reply, voice, 0, seed) for voice in ASSISTANT_VOICES for reply in spoken]
    practice = (*rephrased[:USER_REPHRASED], *drills[:USER_DRILLS], *domain.substitutions[:USER_SUBSTITUTIONS])
    plan += [_user("user", text, 0, seed) for text in (*trained, *practice)]
    plan += [_assistant("assistant", reply, voice, 1, seed) for voice in ASSISTANT_VOICES for reply in spoken]
    plan += [_user("user", text, 1, seed) for text in _shuffled(trained, f"second round {seed}")]
    plan += _evaluation(domain, trained, seed)
    plan += _styled(replies, seed)
    plan += _everyday(domain, 0, seed)
    plan += [_user("user", text, 0, seed) for text in domain.sentences[:USER_SENTENCES]]
    plan += _everyday(domain, 1, seed)
    for number in range(2, USER_ROUNDS):
        plan += [_user("user", text, number, seed) for text in _shuffled(trained, f"round {number} {seed}")]
    return list(dict.fromkeys(plan))


def _replies(domain: Domain, seed: int) -> list[tuple[str, str]]:
    """(spoken text, style) of every reply but repetitions; sums, which follow a rule, are sampled."""
    sums = list(dict.fromkeys(item.reply for item in domain.training if item.intent == "sum"))
    others = [item.reply for item in domain.items if item.intent not in ("repeat", "sum")]
    chosen = _shuffled(sums, f"sum {seed}")[:SUM_REPLIES]
    return list(dict.fromkeys((spoken_text(reply), style_of(reply)) for reply in (*others, *chosen)))


def _rephrased(domain: Domain, seed: int) -> list[str]:
    """Other ways to ask whatever is asked; of repetitions there are drills."""
    ways = {item.question for item in domain.rephrased if item.role == "user" and item.intent != "repeat"}
    return _shuffled(ways - set(domain.spoken_questions), f"rephrased {seed}")


def _styled(replies: Sequence[tuple[str, str]], seed: int) -> Iterator[Utterance]:
    """Plain replies said in every style, so that a tag works on any text."""
    plain = [text for text, style in replies if not style]
    for style in [name for name in STYLES if name]:
        for text in _shuffled(plain, f"{style} {seed}")[:STYLED_REPLIES]:
            for voice in ASSISTANT_VOICES:
                yield _assistant("assistant", (text, style), voice, 0, seed)


def _everyday(domain: Domain, number: int, seed: int) -> Iterator[Utterance]:
    """Each sentence by one of the two voices in turn; the second round swaps the voices. Drills, to say any words."""
    drilled = dict.fromkeys(drill.reply for drill in domain.drills[-DRILL_REPLIES:])
    for position, text in enumerate((*domain.sentences, *drilled)):
        voice = ASSISTANT_VOICES[(position + number) % len(ASSISTANT_VOICES)]
        yield _assistant("everyday", (text, ""), voice, 0, seed)


def _evaluation(domain: Domain, trained: Sequence[str], seed: int) -> Iterator[Utterance]:
    """Held-out phrasings in held-out voices and in users' voices, known ones in held-out voices, unseen sentences."""
    held = _shuffled(sorted(domain.held_out), f"evaluation {seed}")[:EVALUATION_ITEMS]
    known = _shuffled(trained, f"known {seed}")[:EVALUATION_ITEMS]
    for text in held:
        for voice in HELD_OUT_VOICES:
            yield Utterance("evaluation", text, "", 0, Delivery(((voice, 1.0),)))
        yield _user("evaluation", text, 0, seed)
    for position, text in enumerate(known):
        voice = HELD_OUT_VOICES[position % len(HELD_OUT_VOICES)]
        yield Utterance("evaluation", text, "", 0, Delivery(((voice, 1.0),)))
    for text in domain.held_out_sentences:
        for voice in ASSISTANT_VOICES:
            yield Utterance("evaluation", text, "", 0, Delivery(((voice, 1.0),)))


def _assistant(kind: Kind, reply: tuple[str, str], voice: str, number: int, seed: int) -> Utterance:
    text, style = reply
    rng = _rng(kind, text, style, voice, number, seed)
    delivery = replace(STYLES[style], voices=((voice, 1.0),))
    if number:
        delivery = replace(
            delivery,
            speed=round(delivery.speed * rng.uniform(0.92, 1.08), 3),
            pitch_gain=round(delivery.pitch_gain * rng.uniform(0.97, 1.03), 3),
            pitch_range=round(delivery.pitch_range * rng.uniform(0.85, 1.15), 3),
            style_shift=rng.randint(-4, 10),
        )
    return Utterance(kind, text, style, number, delivery)


def _user(kind: Kind, text: str, number: int, seed: int) -> Utterance:
    rng = _rng(kind, text, "", "", number, seed)
    voice = rng.choice(USER_VOICES)
    voices: tuple[tuple[str, float], ...] = ((voice, 1.0),)
    if rng.random() < 0.5:
        other = rng.choice([name for name in MIX_VOICES if name != voice])
        weight = round(rng.uniform(0.45, 0.8), 3)
        voices = ((voice, weight), (other, round(1 - weight, 3)))
    delivery = Delivery(
        voices,
        speed=round(rng.uniform(0.85, 1.2), 3),
        pitch_gain=round(rng.uniform(0.94, 1.07), 3),
        pitch_range=round(rng.uniform(0.8, 1.25), 3),
        style_shift=rng.randint(-4, 10),
    )
    return Utterance(kind, text, "", number, delivery)


def _espeak(text: str, number: int, seed: int) -> Utterance:
    rng = _rng("espeak", text, "", "", number, seed)
    voice = f"{rng.choice(ESPEAK_ACCENTS)}+{rng.choice(ESPEAK_VARIANTS)}"
    return Utterance("espeak", text, "", number, EspeakDelivery(voice, rng.randint(125, 185), rng.randint(30, 75)))


def _shuffled(texts: Iterable[str], seed: str) -> list[str]:
    """The texts in an order that does not depend on which other texts there are."""
    return sorted(texts, key=lambda text: hashlib.sha256(f"{seed} {text}".encode()).digest())


def _rng(*parts: object) -> random.Random:
    return random.Random(repr(parts))
