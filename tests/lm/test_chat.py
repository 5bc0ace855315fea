"""The chat room on the nano checkpoint, and on a model that is told what to say."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from services.lm.chat import ChatLm, load_chat_lm
from services.lm.step1 import load_step1
from services.shared.errors import (
    CorruptFileError,
    EmptyReplyError,
    InvalidInputError,
    MissingFileError,
    PromptTooLongError,
    UnknownTokenError,
)
from services.shared.nn.step1 import KeyValueCache
from services.shared.paths import CHAT_FOLDER
from services.shared.prompt.chat import CHAT_SYSTEM_PROMPT, Message
from services.shared.sampling import ASR_PARAMS, CHAT_PARAMS, SamplingParams
from tests.conftest import NANO

FOLDER = NANO / CHAT_FOLDER
GREEDY = SamplingParams(max_new_tokens=40, temperature=0)


@pytest.fixture(scope="module")
def chat() -> ChatLm:
    return load_chat_lm(FOLDER)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> tuple[ChatLm, list[int]]:
    """A chat room whose model says the given ids, then <|EOT|>."""
    chat = load_chat_lm(FOLDER, max_batch=1)
    script: list[int] = []
    model = chat._batcher._model
    said = 0

    def extend(input_ids: Tensor, cache: KeyValueCache, first_slot: int = 0) -> Tensor:
        nonlocal said
        said = 0 if input_ids.shape[1] > 1 else said + 1
        cache.lengths[first_slot] += input_ids.shape[1]
        logits = torch.zeros(1, model.config.vocab_size)
        logits[0, script[said] if said < len(script) else chat.tokenizer.eot_id] = 1e4
        return logits

    monkeypatch.setattr(model, "extend", extend)
    return chat, script


@pytest.mark.integration
@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Hello.", "Hello! How can I help you?"),
        ("Turn off the garden light.", "The garden light is off."),
    ],
)
def test_nano_answers_a_typed_question(chat: ChatLm, question: str, answer: str) -> None:
    pieces = list(chat.reply([Message("user", question)], GREEDY))
    assert "".join(pieces).strip() == answer
    assert len(pieces) > 3, "the reply is streamed"


@pytest.mark.integration
def test_replies_consumed_in_turn_are_those_of_single_runs(chat: ChatLm) -> None:
    params = replace(CHAT_PARAMS, seed=3)
    system = Message("system", CHAT_SYSTEM_PROMPT)
    talks = [[system, Message("user", text)] for text in ("Who built you?", "What is the capital of Egypt?")]
    single = ["".join(chat.reply(talk, params)) for talk in talks]
    streams = [chat.reply(talk, params) for talk in talks]
    texts = ["", ""]
    while any(pieces := [next(stream, "") for stream in streams]):
        texts = [text + piece for text, piece in zip(texts, pieces, strict=True)]
    assert texts == single


@pytest.mark.unit
def test_a_call_is_no_part_of_the_words_unless_it_is_asked_for(scripted: tuple[ChatLm, list[int]]) -> None:
    chat, script = scripted
    marks = [chat.tokenizer.id_of(mark) for mark in ("<|CALL_START|>", "<|CALL_END|>")]
    call, said = chat.tokenizer.encode_text("light"), chat.tokenizer.encode_text("It is off.")
    script += [marks[0], *call, marks[1], *said]
    question = [Message("user", "Turn it off.")]
    assert "".join(chat.reply(question, GREEDY)).strip() == "It is off."
    whole = "".join(chat.reply(question, GREEDY, with_calls=True))
    assert "".join(whole.split()) == "<|CALL_START|>light<|CALL_END|>Itisoff."


@pytest.mark.integration
def test_nano_transcribes_any_tokens_to_text(chat: ChatLm) -> None:
    transcript = chat.transcribe([5, 6, 1030, 2060, 3090] * 8)
    assert isinstance(transcript, str)
    assert transcript == chat.transcribe([5, 6, 1030, 2060, 3090] * 8), "asking twice gives the same"


@pytest.mark.unit
def test_the_parameters_are_those_of_the_release() -> None:
    assert (CHAT_PARAMS.max_new_tokens, CHAT_PARAMS.temperature, CHAT_PARAMS.top_p) == (2048, 0.7, 0.9)
    assert ASR_PARAMS.temperature == 0


@pytest.mark.unit
def test_a_reply_stops_at_the_ends_of_tokenizer_and_configuration(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text()) | {"eos_token_id": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_chat_lm(tmp_path).stop_ids == (2, 3)
    assert load_chat_lm(FOLDER).stop_ids == (3,)


@pytest.mark.integration
def test_an_empty_reply_is_an_error_that_may_be_tried_again(scripted: tuple[ChatLm, list[int]]) -> None:
    chat, _ = scripted
    with pytest.raises(EmptyReplyError) as caught:
        list(chat.reply([Message("user", "Hello.")]))
    assert caught.value.retryable


@pytest.mark.integration
def test_an_empty_transcript_is_silence(scripted: tuple[ChatLm, list[int]]) -> None:
    chat, _ = scripted
    assert chat.transcribe([1, 2, 1030, 1031, 1032]) == ""


@pytest.mark.integration
def test_a_reply_of_many_bytes_comes_in_whole_characters(scripted: tuple[ChatLm, list[int]]) -> None:
    chat, script = scripted
    script += chat.tokenizer.encode_text("Hé语 ok")
    pieces = list(chat.reply([Message("user", "Hello.")]))
    assert "".join(pieces) == "Hé语 ok"
    assert not any("\N{REPLACEMENT CHARACTER}" in piece or piece == "" for piece in pieces)


@pytest.mark.integration
def test_a_reply_cut_inside_a_character_says_so(scripted: tuple[ChatLm, list[int]]) -> None:
    chat, script = scripted
    script += chat.tokenizer.encode_text("a语")[:-1]
    assert "".join(chat.reply([Message("user", "Hello.")])) == "a\N{REPLACEMENT CHARACTER}"


@pytest.mark.integration
def test_closing_a_reply_frees_its_slot(chat: ChatLm) -> None:
    stream = chat.reply([Message("user", "Who built you?")], GREEDY)
    next(iter(stream))
    del stream
    chat._batcher.step()
    assert not chat._batcher.has_work
    assert not any(chat._batcher._cache.lengths)


@pytest.mark.unit
def test_a_conversation_longer_than_the_model_is_refused(chat: ChatLm) -> None:
    with pytest.raises(PromptTooLongError, match="max_seq_len of 4096"):
        chat.transcribe([1, 2, 1030, 1031, 1032] * 900)


@pytest.mark.unit
def test_no_messages_and_no_speech_are_refused(chat: ChatLm) -> None:
    with pytest.raises(InvalidInputError):
        list(chat.reply([]))
    with pytest.raises(UnknownTokenError):
        chat.transcribe([])


@pytest.mark.unit
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.model", "tokenizer_config.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).unlink()
    with pytest.raises(MissingFileError, match=name):
        load_chat_lm(tmp_path)


@pytest.mark.unit
def test_files_of_two_checkpoints_are_told_apart(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer.model").write_bytes((FOLDER / "tokenizer.model").read_bytes() + b"\x0a\x03\x0a\x01\x7f")
    size = json.loads((FOLDER / "config.json").read_text())["vocab_size"]
    with pytest.raises(CorruptFileError, match=f"{size + 1} pieces"):
        load_chat_lm(tmp_path)


@pytest.mark.unit
def test_a_folder_that_is_absent_is_named() -> None:
    with pytest.raises(MissingFileError, match="no-such-folder"):
        load_step1("no-such-folder")
