"""Cutting text into clauses: where a cut may stand, how long a clause may be, in pieces as in one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shared.errors import InvalidOptionError, NothingToSpeakError
from services.shared.prompt.speech.clauses import ClauseLimits, ClauseSplitter, split_clauses
from services.shared.prompt.speech.speech_length import estimate_speech_s
from services.shared.prompt.speech.tags import is_speakable_character

pytestmark = pytest.mark.unit

EAGER = ClauseLimits(sentence_s=0.0, phrase_s=0.0, longest_s=15.0)
SENTENCES = ClauseLimits(sentence_s=0.0, phrase_s=15.0, longest_s=15.0)

texts = st.text(
    st.one_of(
        st.sampled_from("。！？，、；：…—.,!?;:\n \t()（）「」“”'\"0123456789"),
        st.sampled_from("你好世界今天のはい안녕하세요abcdefgh ABC"),
        st.characters(codec="utf-8"),
    ),
    max_size=120,
)
LONG_TEXTS = ["字" * 500, "word " * 300, "x" * 2000, "가" * 500, "1" * 400, "ア" * 600, "a\u0301" * 900]
unbracketed_texts = texts.map(lambda text: text.translate({ord("("): None, ord("（"): None}))
limits = st.sampled_from([ClauseLimits(), EAGER, SENTENCES, ClauseLimits(0.5, 1.0, 2.0)])


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("今天很好。我们走吧！你呢？", ["今天很好。", "我们走吧！", "你呢？"]),
        ("It is late. Go home! Why?", ["It is late.", "Go home!", "Why?"]),
        ("「はい。」と彼は言った。次。", ["「はい。」", "と彼は言った。", "次。"]),
        ("안녕하세요. 저는 나노입니다. 네!", ["안녕하세요.", "저는 나노입니다.", "네!"]),
        ("他说：“走吧！”然后走了。", ["他说：“走吧！”", "然后走了。"]),
        ("真的吗？！是的。", ["真的吗？！", "是的。"]),
        ("first line\nsecond line", ["first line", "second line"]),
        ("I use Python.今天学习。", ["I use Python.", "今天学习。"]),
        ("Hi!Yes.", ["Hi!", "Yes."]),
        ('He said "Go." Then "Stay." followed.', ['He said "Go."', 'Then "Stay." followed.']),
    ],
)
def test_sentences_of_each_language_end_where_they_should(text: str, clauses: list[str]) -> None:
    assert split_clauses(text, SENTENCES) == clauses


@pytest.mark.parametrize(
    "whole",
    [
        "Pi is 3.14159 and 1,000.50 is money",
        "meet me at 10:30 sharp",
        "Dr. Smith and Mrs. Jones of Acme Inc. left",
        "the U.S. Army, e.g. at 5 p.m. Eastern time",
        "J. K. Rowling wrote it",
        "No. 5 is alive",
        "wait...what",
        "see https://a.example.com/x?q=1&r=2!3 now",
        "look at www.example.com?page=2 now",
        "write to me@example.com now",
        "Node.js and 3.5倍",
        "1. Wash the rice",
        "“Stop!” he said",
        "版本2.0发布",
        "第1，234号",
    ],
)
def test_numbers_abbreviations_ellipses_and_addresses_stay_whole(whole: str) -> None:
    assert split_clauses(whole, ClauseLimits(sentence_s=0, phrase_s=14, longest_s=15)) == [whole]
    assert split_clauses(whole + ". Next.", SENTENCES)[0].startswith(whole)


@pytest.mark.parametrize(
    "whole", ["1,000.50 is it", "at 10:30 sharp", "第1，234号", "wait...what", "https://a.com/x,y"]
)
def test_marks_inside_a_number_or_an_address_cut_nothing(whole: str) -> None:
    assert split_clauses(whole, EAGER) == [whole]


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("一，二、三；四：五", ["一，", "二、", "三；", "四：", "五"]),
        ("one, two; three: four", ["one,", "two;", "three:", "four"]),
        ("well... yes", ["well...", "yes"]),
        ("是的……大概", ["是的……", "大概"]),
        ("a—b", ["a—", "b"]),
        ("So do I. Then", ["So do I.", "Then"]),
        ("Is it? No. Yes", ["Is it?", "No.", "Yes"]),
    ],
)
def test_phrases_are_cut_too_when_asked(text: str, clauses: list[str]) -> None:
    assert split_clauses(text, EAGER) == clauses


def test_short_sentences_join_the_next_one() -> None:
    assert split_clauses("Hello! How can I help you?") == ["Hello! How can I help you?"]


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        (
            "The sheep says baa. It is late. Go to bed now, and do not forget your old blue blanket.",
            ["The sheep says baa.", "It is late. Go to bed now, and do not forget your old blue blanket."],
        ),
        (
            "When the sun shines in Lisbon and the wind is very weak in the evening, we go to the sea, and we swim.",
            [
                "When the sun shines in Lisbon and the wind is very weak in the evening,",
                "we go to the sea, and we swim.",
            ],
        ),
        ("Well, it is late.", ["Well, it is late."]),
    ],
)
def test_the_first_clause_is_shorter_than_the_later_ones(text: str, clauses: list[str]) -> None:
    assert split_clauses(text) == clauses
    later = ClauseLimits(first_sentence_s=15.0, first_phrase_s=15.0)
    assert len(clauses) == 1 or split_clauses(text, later)[0] != clauses[0]


def test_limits_of_the_first_clause_never_lengthen_it() -> None:
    text = "It is late. Go home! Why?"
    lengthening = ClauseLimits(0.0, 0.0, 15.0, first_sentence_s=9.0, first_phrase_s=9.0)
    assert split_clauses(text, lengthening) == ["It is late.", "Go home!", "Why?"]


def test_leading_tags_are_carried_onto_every_clause() -> None:
    assert split_clauses("(高兴1)（粤语）你好。再见。", EAGER) == ["(高兴1)（粤语）你好。", "(高兴1)（粤语）再见。"]
    assert split_clauses("(高兴1)你好。(悲伤1)再见。", EAGER) == ["(高兴1)你好。", "(悲伤1)再见。"]


def test_brackets_that_are_no_tag_are_text() -> None:
    assert split_clauses("He left. (Really so.)") == ["He left. (Really so.)"]
    assert split_clauses("He left. (Really so.)", EAGER) == ["He left.", "(Really so.)"]
    assert split_clauses("(a)" * 5 + "b", EAGER) == ["(a)" * 5 + "b"]
    assert split_clauses("(a)" * 999 + "b")[0].startswith("(a)" * 9)
    assert split_clauses("(unclosed. Yes. ", EAGER) == ["(unclosed.", "Yes."]
    assert split_clauses("(a remark that is much too long for a tag) Yes. No.", SENTENCES)[-1] == "No."


@pytest.mark.parametrize("text", ["", "  \n", "。！？…", "(高兴1)", "(高兴1)（粤语）…", "🙂🙂", "." * 3000, " " * 9000])
def test_text_without_a_speakable_character_is_refused(text: str) -> None:
    with pytest.raises(NothingToSpeakError):
        split_clauses(text)


def test_a_clause_is_given_out_at_the_first_character_after_it() -> None:
    splitter = ClauseSplitter(EAGER)

    assert splitter.push("你好。") == []
    assert splitter.push("今") == ["你好。"]
    assert splitter.finish() == ["今"]


@pytest.mark.parametrize("text", LONG_TEXTS)
def test_no_clause_is_longer_than_the_longest(text: str) -> None:
    clauses = split_clauses(text, ClauseLimits(longest_s=10.0))

    assert len(clauses) > 2
    assert all(estimate_speech_s(clause) <= 10.0 * 1.2 for clause in clauses)
    assert all(estimate_speech_s(clause) > 5.0 for clause in clauses[:-1])


def test_a_forced_cut_stands_between_words_and_never_inside_a_written_character() -> None:
    assert set(" ".join(split_clauses("unforgettable " * 100)).split()) == {"unforgettable"}
    assert all(clause[0] == "a" for clause in split_clauses("a\u0301" * 900))


def test_a_forced_cut_prefers_a_comma_in_reach() -> None:
    clauses = split_clauses("字" * 30 + "，" + "字" * 60, ClauseLimits(phrase_s=15.0))

    assert clauses[0] == "字" * 30 + "，"


@pytest.mark.parametrize("values", [(3, 2, 10), (0, 0, 0.5), (-1, 2, 3), (1, 20, 10), (0, float("nan"), 10)])
def test_limits_out_of_order_are_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(InvalidOptionError):
        ClauseLimits(*values)


@settings(max_examples=300)
@given(texts, limits, st.data())
def test_any_chunking_gives_the_same_clauses(text: str, limits: ClauseLimits, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    splitter = ClauseSplitter(limits)
    arrived: list[str] = []
    for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True):
        arrived += splitter.push(text[a:b])
    try:
        arrived += splitter.finish()
    except NothingToSpeakError:
        with pytest.raises(NothingToSpeakError):
            split_clauses(text, limits)
        return
    assert split_clauses(text, limits) == arrived


@settings(max_examples=300)
@given(unbracketed_texts, st.sampled_from(["", "(高兴1)"]), limits)
def test_every_speakable_character_is_spoken_once_and_in_order(text: str, tags: str, limits: ClauseLimits) -> None:
    try:
        clauses = split_clauses(tags + text, limits)
    except NothingToSpeakError:
        return
    bodies = [clause[len(tags) :] for clause in clauses]

    assert all(clause.startswith(tags) for clause in clauses)
    assert sounds("".join(bodies)) == sounds(text)
    assert all(sounds(body) for body in bodies)
    assert all(estimate_speech_s(body) <= 1.2 * limits.longest_s + 1 for body in bodies)


def sounds(words: str) -> str:
    return "".join(character for character in words if is_speakable_character(character))
