"""The language models: gradients through the room's layers, the shared softmax row, sequences in the rooms' prompts."""

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from services.nano.domain import build_domain
from services.nano.lm.chat import ChatExamples, reply_ids
from services.nano.lm.codes import code_starts, near_values, shaken, starting_vectors, used_values, with_pairs
from services.nano.lm.network import TargetSoftmax, hidden_states, tapped, thinned
from services.nano.lm.said import SaidPieces
from services.nano.lm.speech import SHARES, SpeechExamples
from services.nano.lm.stage import begin, begin_words, sizes
from services.nano.lm.task import NO_HINT, LmTask
from services.nano.phones import LABELS
from services.nano.plan import Kind
from services.nano.rephrasing import ways_to_say
from services.nano.speech import Recording
from services.nano.tokens.stage import BASE
from services.nano.tokens.store import Rendition
from services.nano.tokens.vocabulary import SPEAKERS, write_vocabulary
from services.nano.training.recorded import Clip
from services.shared.nn.step1 import Step1, Step1Config
from services.shared.prompt.chat.system_prompts import CHAT_SYSTEM_PROMPT
from services.shared.prompt.speech.system_prompts import SPEAKER_PROMPT
from services.shared.text import TextTokenizer, load_text_tokenizer
from services.shared.text.tokenizer import MODEL_FILE

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    folder = tmp_path_factory.mktemp("vocabulary")
    write_vocabulary(build_domain(), BASE, [folder])
    return load_text_tokenizer(folder)


def _model() -> Step1:
    torch.manual_seed(0)
    return Step1(Step1Config(16, 24, 4, 2, 3, 50, 64, 1e-5, (3,)))


def test_the_training_pass_equals_the_rooms_logits_and_reaches_every_parameter() -> None:
    model = _model()
    ids = torch.randint(0, 50, (2, 11))
    with tapped(model, 2) as inner:
        logits = model.lm_head(hidden_states(model, ids))
    torch.testing.assert_close(logits, model.logits(ids), atol=1e-5, rtol=1e-5)
    assert inner[0].shape == (22, 16)
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_dropped_branches_differ_from_run_to_run_and_only_inside_the_context() -> None:
    model, ids = _model(), torch.randint(0, 50, (2, 11))
    whole = hidden_states(model, ids)
    with thinned(model, 0.5):
        first, second = hidden_states(model, ids), hidden_states(model, ids)
    assert not torch.allclose(first, second)
    with thinned(model, 0.0):
        torch.testing.assert_close(hidden_states(model, ids), whole)
    with thinned(model, 1.0):
        assert torch.equal(hidden_states(model, ids), model.model.norm(model.model.embed_tokens(ids)))
    torch.testing.assert_close(hidden_states(model, ids), whole)


def test_what_stands_behind_a_sequence_changes_nothing_before_it() -> None:
    model = _model()
    ids = torch.randint(0, 50, (1, 9))
    padded = torch.cat([ids, torch.zeros(1, 4, dtype=torch.int64)], dim=1)
    torch.testing.assert_close(hidden_states(model, padded)[:, :9], hidden_states(model, ids))


def test_the_restricted_loss_equals_the_full_softmax_of_the_written_head() -> None:
    model, hidden = _model(), torch.randn(6, 16)
    softmax = TargetSoftmax(torch.tensor([3, 7, 20, 41]), 50)
    targets = torch.tensor([7, 41, 3, 20, 20, 7])
    restricted = softmax.loss(softmax.logits(model.lm_head, hidden), targets, smoothing=0.0)
    softmax.fill_unused(model.lm_head)
    torch.testing.assert_close(restricted, torch.nn.functional.cross_entropy(model.lm_head(hidden), targets))


def test_a_code_is_only_replaced_within_its_own_run() -> None:
    books = torch.randn(512, 16), torch.randn(512, 24)
    near = near_values(books)
    for start in code_starts():
        run = near[start : start + 512]
        assert run.min() >= start
        assert run.max() < start + 512
        assert not (run == np.arange(start, start + 512)[:, None]).any()
    values = used_values(pairs=False)
    moved = shaken(values, near, 0.5, np.random.default_rng(0))
    assert 0.4 < (moved != values).mean() < 0.6
    assert np.array_equal(shaken(values, near, 0.0, np.random.default_rng(0)), values)


def test_near_codes_begin_with_near_vectors() -> None:
    line = torch.linspace(0, 1, 512)[:, None] ** torch.arange(1, 5)
    vectors = starting_vectors((line, line), 32)
    apart = (vectors[100] - vectors[101]).norm(), (vectors[100] - vectors[400]).norm()
    assert apart[0] < apart[1] / 4


def test_second_codes_of_pairs_have_ids_of_their_own() -> None:
    assert with_pairs(np.array([1, 2, 1030, 2050, 3080, 5, 6, 1031, 2051, 3081])).tolist()[:7] == [
        *(1, 514, 1030, 2050, 3080),
        *(5, 518),
    ]


def test_every_text_of_the_domain_survives_the_vocabulary_and_a_system_prompt_is_a_few_tokens(
    tokenizer: TextTokenizer,
) -> None:
    domain = build_domain()
    for text in [*domain.sentences[:300], *(item.question for item in domain.items[::7])]:
        ids = tokenizer.encode_text(text)
        assert tokenizer.decode(ids) == text
        assert len(ids) <= len(text.split()) + sum(map(text.count, ".,?!:")), text
    assert len(tokenizer.encode_text(SPEAKER_PROMPT.format("Nano"))) == 5
    assert len(tokenizer.encode_text(CHAT_SYSTEM_PROMPT)) == 1


def test_a_call_in_a_reply_is_two_marks_around_plain_text(tokenizer: TextTokenizer) -> None:
    reply = "<|CALL_START|>light; room=hall<|CALL_END|> It is on."
    ids = reply_ids(tokenizer, reply)
    marks = [tokenizer.id_of("<|CALL_START|>"), tokenizer.id_of("<|CALL_END|>")]
    assert [token for token in ids if token in marks] == marks
    assert ids[0] == marks[0]
    assert tokenizer.decode(ids) == "light; room=hall It is on."


def _chat_examples(tokenizer: TextTokenizer, *, spoken: bool) -> ChatExamples:
    domain = build_domain()
    values = np.array([1, 2, 1030, 2050, 3080] * 12)
    clip, _ = _clip("user", "Hello.", "_həlO_", 1)
    rendition = Rendition("a", 0, 0.0, 1.0, values)
    heard = {item.question: [(clip, rendition)] for item in domain.training if item.role == "user" and spoken}
    books = torch.randn(512, 16), torch.randn(512, 24)
    return ChatExamples(domain, tokenizer, (heard, {}), near_values(books), {"hello": "həlO"})


def test_drills_and_everyday_sentences_are_heard_and_natural_voices_more_often(tokenizer: TextTokenizer) -> None:
    domain = build_domain()
    drills, sentences = [drill.question for drill in domain.drills[:40]], domain.sentences[:40]
    asked = [item.question for item in domain.training if item.role == "user"][:40]
    values = np.array([1, 2, 1030, 2050, 3080] * 12)
    heard = {}
    for place, text in enumerate((*asked, *drills, *sentences)):
        kind: Kind = "user" if place % 10 == 0 else "espeak"
        heard[text] = [(_clip(kind, text, "_həlO_", 1)[0], Rendition("a", 0, 0.0, 1.0, values))]
    near = near_values((torch.randn(512, 16), torch.randn(512, 24)))
    examples = ChatExamples(domain, tokenizer, (heard, {}), near, {"hello": "həlO"})
    texts = {tuple(tokenizer.encode_text(text)): text for text in heard}
    replies = {tuple(tokenizer.encode_text(drill.reply)) for drill in domain.drills}
    rng, written, drilled = np.random.default_rng(0), Counter[str](), 0
    for _ in range(900):
        example = examples.draw(rng)
        target = tuple(example.targets[example.first_target : -1].tolist())
        is_written_down = example.words and target in texts
        if is_written_down:
            written[texts[target]] += 1
        drilled += target in replies
    of_kind = [sum(written[text] for text in group) for group in (asked, drills, sentences)]
    assert sum(of_kind) == pytest.approx(0.35 * 900, rel=0.25)
    assert of_kind[0] == pytest.approx(0.5 * sum(of_kind), rel=0.25)
    assert min(of_kind) > 0
    natural = sum(count for text, count in written.items() if heard[text][0][0].recording.kind == "user")
    assert natural == pytest.approx(8 * 0.1 / (8 * 0.1 + 0.9) * sum(of_kind), rel=0.3)
    assert drilled == pytest.approx(0.4 * 0.4 * 900, rel=0.25)


def test_more_recordings_leave_the_alphabet_of_words_as_it_was(tokenizer: TextTokenizer) -> None:
    assert _chat_examples(tokenizer, spoken=True).words == _chat_examples(tokenizer, spoken=False).words


def test_a_question_is_heard_in_other_words_and_answered_as_ever(tokenizer: TextTokenizer) -> None:
    domain = build_domain()
    item = next(item for item in domain.rephrased if not item.facts and not item.history and item.intent != "repeat")
    assert item.question not in {known.question for known in domain.training}
    spoken = [(_clip("espeak", item.question, "_həlO_", 1)[0], Rendition("a", 0, 0.0, 1.0, np.array([1, 2, 1030] * 5)))]
    near = near_values((torch.randn(512, 16), torch.randn(512, 24)))
    examples = ChatExamples(domain, tokenizer, ({item.question: spoken}, {}), near, {})
    rng, ends = np.random.default_rng(0), set[tuple[int, ...]]()
    for example in (examples.draw(rng) for _ in range(60)):
        if example.speech[1]:
            ends.add(tuple(example.targets[example.first_target : -1].tolist()))
    assert ends == {tuple(tokenizer.encode_text(text)) for text in (item.question, item.reply)}


def test_held_out_drills_are_judged(tokenizer: TextTokenizer) -> None:
    domain = build_domain()
    drill = domain.drills[3]
    spoken = [
        (
            _clip("espeak", drill.question, "_həlO_", 1)[0],
            Rendition("a", 0, 0.0, 1.0, np.array([1, 2, 1030, 2050, 3080])),
        )
    ]
    near = near_values((torch.randn(512, 16), torch.randn(512, 24)))
    examples = ChatExamples(domain, tokenizer, ({}, {drill.question: spoken}), near, {})
    ends = {tuple(example.targets[example.first_target : -1].tolist()) for example in examples.judged()}
    assert {tuple(tokenizer.encode_text(text)) for text in (drill.question, drill.reply)} <= ends


def test_chat_sequences_hold_no_held_out_phrasing_and_end_with_the_reply(tokenizer: TextTokenizer) -> None:
    domain, examples = build_domain(), _chat_examples(tokenizer, spoken=True)
    hello = tokenizer.encode_text("Hello")[0]
    rng = np.random.default_rng(0)
    allowed = set(examples.targets().tolist())
    held_out = {tuple(tokenizer.encode_text(question)) for question in domain.held_out}
    kinds = set()
    for _ in range(80):
        example = examples.draw(rng)
        replied = example.targets[example.first_target :]
        assert replied[-1] == tokenizer.eot_id
        assert allowed.issuperset(replied.tolist())
        assert tuple(replied[:-1].tolist()) not in held_out
        first, last = example.speech
        kinds.add((last > first, bool(example.words)))
        assert (last - first) % 5 == 0
        # Said from 0.19 to 0.59 s, so known by the end of the sixth group of 120 ms.
        hinted = np.flatnonzero(example.hints != NO_HINT)
        assert hinted.tolist() == ([first + 5 * 5 + 4] if last > first else [])
        assert (example.hints[hinted] == hello).all()
    assert kinds == {(True, True), (False, False)}
    assert len(examples.judged()) > 0


def test_written_questions_come_in_other_words_too(tokenizer: TextTokenizer) -> None:
    domain, examples = build_domain(), _chat_examples(tokenizer, spoken=False)
    replies: dict[str, set[str]] = {}
    for item in domain.training:
        for way in [item.question, *ways_to_say(item.question)]:
            replies.setdefault(way, set()).add(item.reply)
    taught = {item.question for item in domain.training}
    rng = np.random.default_rng(0)
    otherwise = 0
    for _ in range(300):
        example = examples.draw(rng)
        turns = tokenizer.decode(example.ids[: example.first_target].tolist()).removesuffix("assistant\n")
        question = turns.rpartition("human\n")[2]
        assert question not in domain.held_out
        if question in replies and question not in taught:
            ids = [reply_ids(tokenizer, reply) for reply in replies[question]]
            assert example.targets[example.first_target : -1].tolist() in ids
            otherwise += 1
    assert otherwise > 80


def test_words_to_repeat_in_writing_are_new_each_time(tokenizer: TextTokenizer) -> None:
    domain = build_domain()
    domain = replace(domain, held_out=domain.held_out | {f"Say: {word}." for word in domain.inside})
    near = near_values((torch.randn(512, 16), torch.randn(512, 24)))
    examples = ChatExamples(domain, tokenizer, ({}, {}), near, {})
    asked, known = {item.question for item in domain.items}, {drill.question for drill in domain.drills}
    rng, lengths, new = np.random.default_rng(0), Counter[int](), 0
    for _ in range(600):
        example = examples.draw(rng)
        before = example.ids[: example.first_target].tolist()
        question = tokenizer.decode(before).removesuffix("assistant\n").rpartition("human\n")[2].strip()
        assert question not in domain.held_out
        if not question.startswith("Repeat after me:") or question in asked:
            continue
        reply = tokenizer.decode(example.targets[example.first_target : -1].tolist())
        assert reply.lower() == question.partition(": ")[2].lower()
        lengths[question.count(",") + 1] += 1
        new += question not in known
    assert set(lengths) >= {1, 3, 6, 8}
    assert new > 0.8 * sum(lengths.values()) > 0


_VOICES = {"assistant": "af_heart", "everyday": "am_michael", "user": "bf_emma", "espeak": "gmw/en+f1"}


def _clip(kind: Kind, text: str, phones: str, number: int) -> tuple[Clip, Rendition]:
    """Two seconds of codes in which every phone lasts a tenth of a second, behind 0.19 s of silence."""
    labels = np.array([LABELS.index(phone) for phone in phones])
    ends_s = 0.19 + 0.1 * np.arange(len(phones))
    recording = Recording(
        f"{number:08x}", kind, text, "", 0, ((_VOICES[kind], 1.0),), Path("none"), 16_000, tuple(phones), ()
    )
    clip = Clip(recording, np.zeros(0, np.int16), labels, ends_s)
    values = np.array([1, 2, 1030, 2050, 3080] * 15) + number
    return clip, Rendition(recording.identity, 0, 0.0, 1.0, values)


def _speech_examples(tokenizer: TextTokenizer) -> SpeechExamples:
    said = (("A cat.", "_Akæt_"), ("The sea.", "_ðəsi_"))
    kinds: tuple[Kind, ...] = ("assistant", "everyday", "user", "espeak")
    spoken = [_clip(kind, *said[n % 2], number=1 + 2 * k + n) for k, kind in enumerate(kinds) for n in range(2)]
    books = torch.randn(512, 16), torch.randn(512, 24)
    sounds = {"a": "A", "cat": "kæt", "the": "ðə", "sea": "si"}
    return SpeechExamples(spoken, tokenizer, near_values(books), sounds)


def test_each_code_is_told_which_piece_of_the_text_it_says(tokenizer: TextTokenizer) -> None:
    example = _speech_examples(tokenizer).judged()[0]
    assert len(example.hints) == len(example.ids)
    assert (example.hints[: example.first_target - 1] == NO_HINT).all()
    named = example.hints[example.first_target - 1 : -1]
    hints = [tokenizer.decode([piece]).strip() if piece != NO_HINT else "" for piece in named]
    # Groups of 120 ms: linguistic codes of 60 ms first, then semantic ones of 40 ms; "A" is said from 0.19 to 0.29 s.
    assert hints[:15] == ["", "", "", "", "", "", "A", "", "", "A", "A", "cat", "A", "cat", "cat"]
    assert hints[15:25] == ["cat"] * 10
    assert hints[-20:] == [""] * 20


def test_a_word_is_known_a_group_after_its_last_sound_and_words_never_share_a_group(tokenizer: TextTokenizer) -> None:
    pieces = SaidPieces(tokenizer, {"a": "A", "cat": "kæt", "the": "ðə", "sea": "si"})

    numbers = itertools.count()

    def known(text: str, phones: str) -> list[str]:
        found = pieces.line(*_clip("user", text, phones, next(numbers))).once_heard()
        return [tokenizer.decode([piece]).strip() if piece != NO_HINT else "" for piece in found]

    # "A" ends at 0.29 s, in the third group; "cat" at 0.59 s, in the fifth.
    assert known("A cat.", "_Akæt_") == ["", "", "", "A", "", "cat", *[""] * 9]
    assert known("A a a.", "_AAA_")[:8] == ["", "", "", "A", "a", "a", "", ""]
    assert known("A cat " * 3, "_" + 3 * "Akæt").count("cat") == 3
    assert known("A cat " * 4, "_" + 4 * "Akæt").count("cat") == 3  # the last one ends with the last group


def test_only_the_assistants_voices_have_names_and_a_clone_hears_another_clip(tokenizer: TextTokenizer) -> None:
    examples, rng = _speech_examples(tokenizer), np.random.default_rng(0)
    names = {tokenizer.id_of(name): voice for name, voice in SPEAKERS.items()}
    drawn, named = Counter[str](), 0
    for _ in range(300):
        example = examples.draw(rng)
        text = example.ids[: example.first_target]
        spoken = [name for token, name in names.items() if token in text]
        named += bool(spoken)
        codes = (example.targets[example.first_target :] - tokenizer.audio_offset)[:1] - 1
        kind = ("assistant", "everyday", "user", "espeak")[(int(codes[0]) - 1) // 2]
        drawn[kind] += 1
        heard = text[text >= tokenizer.audio_offset][::5] - tokenizer.audio_offset - 1  # some of them disturbed
        assert spoken or np.median(heard) != codes[0]
        assert not spoken or spoken == [_VOICES[kind]]
        assert len(example.hints) == len(example.ids)
    assert all(drawn[kind] > 0.5 * 300 * share for kind, share in SHARES.items())
    assert 0.4 < named / 300 < 0.7


def test_a_hint_is_learned_from_the_row_of_the_piece(tokenizer: TextTokenizer) -> None:
    torch.manual_seed(0)
    model = begin(sizes(tokenizer.vocab_size, 3), tokenizer, (torch.randn(512, 16), torch.randn(512, 24)))
    begin_words(model, tokenizer, {"cat": "kæt", "cats": "kæts", "sea": "si"})
    table = model.model.embed_tokens.weight.detach()
    cat, cats, sea = (table[tokenizer.id_of(f"▁{word}")] for word in ("cat", "cats", "sea"))
    assert torch.equal(cat, model.lm_head.weight.detach()[tokenizer.id_of("▁cat")])
    assert torch.cosine_similarity(cat, cats, dim=0) > 0.25 > torch.cosine_similarity(cat, sea, dim=0)
    examples = _speech_examples(tokenizer)
    softmax = TargetSoftmax(torch.from_numpy(examples.targets()), tokenizer.vocab_size)
    task = LmTask(model, examples, softmax, batch=4, hint_pieces=tokenizer.audio_offset)
    optimizer = torch.optim.Adam([*model.parameters(), *task.helpers.parameters()], lr=1e-3)
    hints = []
    for step in range(30):
        loss, figures = task.loss(np.random.default_rng(step))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        hints.append(figures["hint"])
    assert hints[-1] < hints[0] - 1


def test_the_vocabulary_takes_over_the_public_control_pieces(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    base = load_text_tokenizer(BASE)
    for piece in ("<s>", "<|EOT|>", "<|BOT|>", "<|CALL_START|>", "<0xFF>"):
        assert tokenizer.id_of(piece) == base.id_of(piece)
    assert tokenizer.audio_offset + 5120 == tokenizer.vocab_size
    write_vocabulary(build_domain(), BASE, [tmp_path / "one"])
    write_vocabulary(build_domain(), tmp_path / "one", [tmp_path / "two"])
    assert (tmp_path / "two" / MODEL_FILE).read_bytes() == (tmp_path / "one" / MODEL_FILE).read_bytes()
