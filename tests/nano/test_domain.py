"""The domain is as wide as the recipe promises, asks nothing twice with two answers, and holds out fairly."""

import re

import pytest

from services.nano.domain import (
    HELD_OUT_SHARE,
    STYLE_TAGS,
    Call,
    Domain,
    build_domain,
    calls_of,
    is_right,
    spoken_text,
    style_of,
    words_of,
)
from services.nano.exercises import number_words, sums
from services.nano.grammar import FILLER, Item

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def domain() -> Domain:
    return build_domain()


def test_the_domain_has_the_promised_width(domain: Domain) -> None:
    own = [item for item in domain.items if item.intent not in {"repeat", "sum"}]
    assert len({item.question for item in own if item.role == "user"}) >= 1500
    assert len({item.reply for item in own}) >= 400
    assert len(domain.sentences) >= 2500
    assert {style_of(item.reply) for item in domain.items} == {"", *STYLE_TAGS.values()}
    assert {call.name for item in domain.items for call in calls_of(item.reply)} == {"timer", "weather", "light"}
    assert any(item.facts for item in own)
    assert any(turn.text == FILLER for item in own for turn in item.history)


def test_nothing_stands_twice(domain: Domain) -> None:
    assert len(set(domain.items)) == len(domain.items)
    assert len({*domain.sentences, *domain.held_out_sentences}) == len(domain.sentences) + len(
        domain.held_out_sentences
    )
    for item in domain.items:
        assert len(set(item.answers)) == len(item.answers), item


def test_one_question_in_one_context_has_one_reply(domain: Domain) -> None:
    replies: dict[object, str] = {}
    for item in domain.items:
        context = (item.question.lower(), item.facts, item.history)
        assert replies.setdefault(context, item.reply) == item.reply, item


def test_a_tenth_of_the_phrasings_is_held_out_and_never_trained(domain: Domain) -> None:
    assert len(domain.held_out) == round(HELD_OUT_SHARE * len(domain.spoken_questions))
    assert domain.held_out <= set(domain.spoken_questions)
    assert not domain.held_out & {item.question for item in domain.training}
    assert not domain.held_out & {turn.text for item in domain.items for turn in item.history}
    assert not set(domain.held_out_sentences) & set(domain.sentences)


def test_what_is_held_out_can_be_learned_from_the_rest(domain: Domain) -> None:
    trained = {(item.reply, item.facts) for item in domain.training}
    asked = {word for item in domain.training for word in words_of(item.question)}
    for item in domain.items:
        assert (item.reply, item.facts) in trained, item
        if item.role == "user":
            assert asked.issuperset(words_of(item.question)), item


def test_equal_seeds_hold_out_equal_phrasings(domain: Domain) -> None:
    build_domain.cache_clear()
    assert build_domain() == domain
    assert build_domain(seed=1).held_out != domain.held_out


def test_the_vocabulary_is_closed_and_every_word_is_repeated_once(domain: Domain) -> None:
    texts = [text for item in domain.items for text in (item.question, item.facts, *item.answers)]
    texts += [turn.text for item in domain.items for turn in item.history if turn.text != FILLER]
    texts += [*domain.sentences, *domain.held_out_sentences]
    assert {word for text in texts for word in words_of(text)} == set(domain.words)
    repeated = {word for item in domain.items if item.intent == "repeat" for word in words_of(item.reply)}
    assert repeated == set(domain.words)


def test_drills_repeat_any_words_and_are_nobodys_question(domain: Domain) -> None:
    assert not {drill.question for drill in domain.drills} & {item.question for item in domain.items}
    assert len({word for drill in domain.drills for word in words_of(drill.reply)}) > 0.99 * len(domain.words)
    begins = {spoken_text(item.reply).split(",")[0] for item in domain.items if item.intent == "repeat"}
    lengths = set()
    for drill in domain.drills:
        assert drill.reply.rstrip(".").split(",")[0] in begins  # else its capital is no piece of the vocabulary
        asked, said = drill.question.partition(": ")[::2]
        assert said.lower() == drill.reply.lower()
        assert asked in {"Say", "Repeat after me", "Please say", "Please repeat"}
        lengths.add(len(words_of(said)))
    assert lengths == {1, 2, 3, 4}


def test_other_ways_to_ask_are_heard_by_training_alone_and_need_no_new_pieces(domain: Domain) -> None:
    asked = {item.question for item in domain.training if item.role == "user"}
    placed = {(found[1], found[2]) for text in asked for found in re.finditer(r"(^|\W)([A-Za-z']+)", text)}
    assert len(domain.ways) > 0.9 * len(asked)
    for question, ways in domain.ways.items():
        assert question in asked
        assert question not in ways
        assert not domain.held_out.intersection(ways)
        for way in ways:
            assert {(found[1], found[2]) for found in re.finditer(r"(^|\W)([A-Za-z']+)", way)} <= placed
    one = next(item for item in domain.training if item.question == "Where do camels live?")
    said = {item.question for item in domain.rephrased if item.answers == one.answers}
    assert "Tell me where camels live." in said


def test_substitutions_are_questions_with_one_or_two_wrong_words(domain: Domain) -> None:
    asked = {tuple(words_of(item.question)) for item in domain.training if item.role == "user"}
    by_length: dict[tuple[str, int], set[tuple[str, ...]]] = {}
    for words in asked:
        by_length.setdefault((words[0], len(words)), set()).add(words)
    wrong = set()
    for text in domain.substitutions:
        words = tuple(words_of(text))
        near = by_length[words[0], len(words)]
        wrong.add(min(sum(a != b for a, b in zip(words, other, strict=True)) for other in near))
        assert set(words) <= set(domain.words)
    assert wrong - {0} == {1, 2}
    assert not set(domain.substitutions) & {item.question for item in (*domain.items, *domain.rephrased)}


def test_texts_are_plain_sentences(domain: Domain) -> None:
    for item in domain.items:
        for text in (item.question, *map(spoken_text, item.answers)):
            assert re.fullmatch(r"[A-Z][A-Za-z',.?!: ]*", text) or item.role == "tool", text
            assert "  " not in text
            assert not re.search(r" [,.?!]|\b[Aa] [aeiou]\w", text), text
            assert item.role == "tool" or text[-1] in ".?!", text


def test_sums_are_right() -> None:
    numbers = {number_words(number): number for number in range(101)}
    signs = {"plus": "+", "minus": "-", "times": "*"}
    for item in sums(0):
        task, result = item.reply.lower().rstrip(".").split(" is ")
        sign = next(sign for sign in signs if f" {sign} " in task)
        left, right = task.split(f" {sign} ")
        assert eval(f"{numbers[left]} {signs[sign]} {numbers[right]}") == numbers[result]
        assert task in item.question.lower()


def test_a_reply_is_taken_apart_into_call_style_and_words() -> None:
    call = Call("light", (("room", "hall"), ("state", "on")))
    reply = f"{call} The hall light is on."
    assert calls_of(reply) == [call]
    assert spoken_text(reply) == "The hall light is on."
    assert (style_of("(快速1)Go!"), spoken_text("(快速1)Go!"), style_of("Go!")) == ("fast", "Go!", "")


def test_an_answer_is_right_by_words_and_calls_alone() -> None:
    call = Call("timer", (("duration", "one hour"),))
    item = Item("timer", "Set it.", (f"{call} Okay, it is set.", f"{call} Done."))
    assert is_right(f"{call}okay it is set", item)
    assert is_right(f"{call} Done!", item)
    assert not is_right("Okay, it is set.", item)
    assert not is_right(f"{call} Okay.", item)
    assert not is_right(f"{Call('timer', (('duration', 'two hours'),))} Done.", item)
