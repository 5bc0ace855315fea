"""New lists of words out of recorded ones: where a list is cut, what stands where, what the models learn of it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from services.nano.domain import build_domain
from services.nano.lm.chat import ChatExamples
from services.nano.lm.codes import near_values
from services.nano.lm.lists import WordLists, parts_of
from services.nano.lm.said import Line, Spoken
from services.nano.lm.speech import SpeechExamples
from services.nano.lm.task import NO_HINT
from services.nano.phones import LABELS
from services.nano.plan import Kind
from services.nano.pronunciation import NO_WORD, words_in
from services.nano.speech import Recording
from services.nano.tokens.stage import BASE
from services.nano.tokens.store import Rendition
from services.nano.tokens.vocabulary import write_vocabulary
from services.nano.training.recorded import Clip
from services.shared.text import TextTokenizer, load_text_tokenizer

pytestmark = pytest.mark.unit

_GROUP_S = 0.12
_PHONES = "kætəlhOɜ"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    folder = tmp_path_factory.mktemp("vocabulary")
    write_vocabulary(build_domain(), BASE, [folder])
    return load_text_tokenizer(folder)


def _line(text: str, groups: list[int]) -> Line:
    """A line that says in each group the word of that place; its codes count up, its pieces are 100, 101 and so on."""
    words = np.repeat(groups, 5)
    return Line(text, np.arange(len(words)), words, 100 + np.arange(len(words_in(text))))


def test_a_list_is_cut_in_the_middle_of_its_pauses_and_keeps_what_each_code_says() -> None:
    line = _line("Please say: sea, cat, dog.", [NO_WORD, 0, 1, 1, NO_WORD, NO_WORD, 2, 3, 3, NO_WORD, 4, NO_WORD])
    parts = parts_of(line)
    assert [part.text for part in parts] == ["Please say:", "sea,", "cat,", "dog."]
    assert [len(part.values) // 5 for part in parts] == [5, 2, 3, 2]
    assert [part.pieces.tolist() for part in parts] == [[100, 101], [102], [103], [104]]
    assert [set(part.words.tolist()) - {NO_WORD} for part in parts] == [{0, 1}, {0}, {0}, {0}]
    whole = Line.joined(parts)
    assert whole.text == line.text
    for found, wanted in ((whole.values, line.values), (whole.words, line.words), (whole.pieces, line.pieces)):
        assert found.tolist() == wanted.tolist()
    assert whole.once_heard().tolist() == line.once_heard().tolist()
    assert Line.joined(parts[1:]).once_heard().tolist() == [NO_HINT, NO_HINT, 102, NO_HINT, 103, NO_HINT, 104]


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("The sea is blue.", [0, 1, 2, 3]),
        ("When it rains, stay inside.", [0, 1, 2, 3, 4]),
        ("Say: sea, cat, please?", [0, 1, 2, 3]),
        ("Sea.", [0]),
        ("Say: sea, cat.", [0, 1, 1]),  # the cat is not said
    ],
)
def test_what_is_no_list_has_no_parts(text: str, groups: list[int]) -> None:
    assert parts_of(_line(text, groups)) == []


def test_words_that_share_a_group_cannot_be_parted() -> None:
    line = _line("Sea, cat.", [0, 0, 1])
    assert len(parts_of(line)) == 2
    line.words[8:10] = 1
    assert parts_of(line) == []
    assert not WordLists([line])


def test_what_stood_first_second_or_last_stands_there_again() -> None:
    texts = ("Say: sea, cat, dog, hat.", "Repeat: one, two, three.", "Tell: only.", "No list here.")
    lists = WordLists(_line(text, [*range(len(words_in(text)))]) for text in texts)
    rng, seen = np.random.default_rng(0), [Counter[str]() for _ in range(4)]
    for _ in range(200):
        line = lists.draw(3, rng)
        assert len(line.values) // 5 == len(line.pieces) == 4
        for place, word in enumerate(line.text.split(" ")):
            seen[place][word] += 1
    assert [set(own) for own in seen] == [
        {"Say:", "Repeat:", "Tell:"},
        {"sea,", "one,"},
        {"cat,", "dog,", "two,"},
        {"hat.", "three."},
    ]
    assert {lists.draw(1, rng).text for _ in range(50)} == {"Say: only.", "Repeat: only.", "Tell: only."}


def _spoken(kind: Kind, voice: str, text: str, number: int) -> tuple[Spoken, dict[str, str]]:
    """A recording that says each word for two groups of codes, all of `number`, a group apart; and how words sound."""
    words = words_in(text)
    sounds = {word.lower(): _PHONES[place % len(_PHONES)] for place, word in enumerate(words)}
    phones = "_" + "_".join(sounds[word.lower()] for word in words) + "_"
    lengths_s = [_GROUP_S if phone == "_" else 2 * _GROUP_S for phone in phones]
    recording = Recording(f"{number:08x}", kind, text, "", 0, ((voice, 1.0),), Path("none"), 16_000, tuple(phones), ())
    labels = np.array([LABELS.index(phone) for phone in phones])
    clip = Clip(recording, np.zeros(0, np.int16), labels, np.cumsum(lengths_s) - 0.001)
    values = np.tile(np.array([0, 512, 1024, 1536, 2048]) + number, 3 * len(words) + 1)
    return (clip, Rendition(recording.identity, 0, 0.0, 1.0, values)), sounds


def test_the_chat_model_repeats_and_writes_down_new_lists_of_recorded_words(tokenizer: TextTokenizer) -> None:
    domain = build_domain()
    drills = [drill for drill in domain.drills if drill.question.count(", ") == 2][:12]
    kinds: list[Kind] = ["user" if place < 6 else "espeak" for place in range(len(drills))]
    asked = next(item for item in domain.training if item.role == "user" and not item.facts and not item.history)
    heard, sounds, number_of = {}, dict[str, str](), dict[str, int]()
    for number, (kind, item) in enumerate(zip([*kinds, "espeak"], [*drills, asked], strict=True)):
        spoken, own = _spoken(kind, "bf_emma", item.question, number)
        heard[item.question] = [spoken]
        sounds |= {word: phone for word, phone in own.items() if word not in sounds}
        number_of[item.question] = number
    near = np.repeat(np.arange(5120)[:, None], 6, axis=1)  # nothing is disturbed
    examples = ChatExamples(domain, tokenizer, (heard, {}), near, sounds)
    rng, anew = np.random.default_rng(0), Counter[tuple[bool, bool]]()
    lists = {tuple(tokenizer.encode_text(text)): text for drill in drills for text in (drill.question, drill.reply)}
    for _ in range(600):
        example = examples.draw(rng)
        first, last = example.speech
        target = example.targets[example.first_target : -1]
        codes = (example.targets[first:last:5] - tokenizer.audio_offset) % 512
        if first == last or tuple(target.tolist()) in lists or len(set(codes.tolist())) < 2:
            continue
        text = tokenizer.decode(target.tolist())
        assert text.count(", ") <= 3
        assert text.endswith(".")
        is_written_down = ": " in text
        anew[is_written_down, bool(codes.max() < 6)] += 1
        said = text.partition(": ")[2] if is_written_down else text
        hinted = [tokenizer.decode([piece]).strip() for piece in example.hints[example.hints != NO_HINT].tolist()]
        assert [word.lower() for word in hinted][-len(words_in(said)) :] == [word.lower() for word in words_in(said)]
    # 0.35 are written down, half of them any words; 0.4 are answered, 0.4 of them drills; half of either is new lists,
    # most of them of more than one recording.
    assert sum(anew.values()) == pytest.approx(600 * 0.5 * (0.35 * 0.5 + 0.4 * 0.4), rel=0.35)
    assert min(anew.values()) > 0
    assert anew[True, True] + anew[False, True] > anew[True, False] + anew[False, False]


def test_no_new_list_is_a_phrasing_that_is_held_out(tokenizer: TextTokenizer) -> None:
    domain = build_domain()
    drills = [drill for drill in domain.drills if drill.question.count(", ") == 1][:2]
    asked = next(item.question for item in domain.training if item.role == "user" and not item.facts)
    spoken, sounds = {}, dict[str, str]()
    for number, question in enumerate((asked, *(drill.question for drill in drills))):
        one, own = _spoken("user", "bf_emma", question, number)
        spoken[question] = [one]
        sounds |= own
    first, second = (drill.question for drill in drills)
    crossed = {f"{a.partition(', ')[0]}, {b.partition(', ')[2]}" for a, b in ((first, second), (second, first))}
    near = np.repeat(np.arange(5120)[:, None], 6, axis=1)
    written = dict[bool, set[str]]()
    for held_out in (domain.held_out, domain.held_out | crossed):
        examples = ChatExamples(replace(domain, held_out=held_out), tokenizer, (spoken, {}), near, sounds)
        rng = np.random.default_rng(0)
        targets = (example.targets[example.first_target : -1].tolist() for example in map(examples.draw, [rng] * 600))
        written[held_out is domain.held_out] = {tokenizer.decode(target) for target in targets}
    assert crossed <= written[True]
    assert not crossed & written[False]


def test_a_voice_says_new_lists_of_its_own_words_only(tokenizer: TextTokenizer) -> None:
    texts = ("Sea, cat, dog.", "Moon, hat, tree.")
    voices = ("af_heart", "am_michael")
    spoken, sounds = [], dict[str, str]()
    for number in range(4):
        one, own = _spoken("assistant", voices[number // 2], texts[number % 2], number + 1)
        spoken.append(one)
        sounds |= own
    examples = SpeechExamples(spoken, tokenizer, near_values((torch.randn(512, 16), torch.randn(512, 24))), sounds)
    rng, found = np.random.default_rng(0), Counter[tuple[int, ...]]()
    for _ in range(300):
        example = examples.draw(rng)
        codes = (example.targets[example.first_target : -1 : 5] - tokenizer.audio_offset).tolist()
        found[tuple(sorted(set(codes)))] += 1
    assert set(found) == {(1,), (2,), (3,), (4,), (1, 2), (3, 4)}
    assert 0.05 < (found[1, 2] + found[3, 4]) / 300 < 0.4
