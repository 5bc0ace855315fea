"""Functions in the prompts that the lm room gets, and calls in the ids that it gives."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import cache
from typing import cast

import numpy as np
import pytest

from services.orchestrator.adapters.triton.chat import TritonChatModel
from services.orchestrator.conversation.options import GenerationOptions, Tool
from services.orchestrator.conversation.record import Role, ToolCall, ToolResult
from services.orchestrator.ports.rooms import ChatMessage, FunctionCall, TextPiece, Work
from services.shared.errors import EmptyReplyError
from services.shared.paths import CHAT_FOLDER
from services.shared.prompt.chat import CallForm
from services.shared.sampling import CHAT_PARAMS
from services.shared.step1_config import read_step1_config
from services.shared.text import TextTokenizer, load_text_tokenizer
from services.shared.triton.client import TritonClient
from services.shared.triton.context import RequestContext
from services.shared.triton.tensors import Array, ModelSpec
from tests.conftest import NANO

pytestmark = pytest.mark.unit

WEATHER = Tool("weather", "Tells the weather.", '{"type": "object"}')
CALL = '{"name": "weather", "arguments": {"place": "Rome"}}'
ROME = FunctionCall("weather", '{"place": "Rome"}')


@cache
def tokenizer() -> TextTokenizer:
    return load_text_tokenizer(NANO / CHAT_FOLDER)


def ids_of(*parts: str) -> list[int]:
    """Ids of text; [ and ] are the marks of a call."""
    marks = {"[": [tokenizer().id_of("<|CALL_START|>")], "]": [tokenizer().id_of("<|CALL_END|>")]}
    return [token for part in parts for token in marks.get(part) or tokenizer().encode_text(part)]


class ScriptedClient:
    """Gives these ids one by one, then says that it stops."""

    def __init__(self, ids: Sequence[int] = ()) -> None:
        self.ids = list(ids)
        self.prompts: list[list[int]] = []
        self.given = 0

    async def stream(
        self,
        spec: ModelSpec,
        tensors: Mapping[str, object],
        *,
        timeout_s: float,
        context: RequestContext | None = None,
    ) -> AsyncGenerator[dict[str, Array], None]:
        self.prompts.append(list(cast(Sequence[int], tensors["input_ids"])))
        for token in self.ids:
            self.given += 1
            yield {"output_ids": np.array([token], np.int32), "finish_reason": np.array([""], object)}
        yield {"output_ids": np.zeros(0, np.int32), "finish_reason": np.array(["stop"], object)}


def model(client: ScriptedClient, form: CallForm = CallForm.JSON) -> TritonChatModel:
    return TritonChatModel(
        cast(TritonClient, client),
        tokenizer(),
        read_step1_config(NANO / CHAT_FOLDER),
        CHAT_PARAMS,
        reply_timeout_s=1.0,
        transcribe_timeout_s=1.0,
        call_form=form,
    )


def reply(
    client: ScriptedClient, form: CallForm, *messages: ChatMessage, tools: Sequence[Tool] = ()
) -> list[TextPiece]:
    async def job() -> list[TextPiece]:
        pieces = model(client, form).reply(messages, GenerationOptions(), Work(), tools=tools)
        async with aclosing(pieces):
            return [piece async for piece in pieces]

    return asyncio.run(job())


ASKED = ChatMessage(Role.USER, "The weather in Rome?")


def test_a_call_is_given_behind_the_words_before_it_and_every_id_is_counted() -> None:
    ids = ids_of("Let me see.", "[", CALL, "]")
    pieces = reply(ScriptedClient(ids), CallForm.JSON, ASKED, tools=[WEATHER])
    assert "".join(piece.text for piece in pieces) == "Let me see."
    assert [piece.call for piece in pieces if piece.call] == [ROME]
    assert sum(piece.tokens for piece in pieces) == len(ids)
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == ["stop"]


def test_words_behind_a_call_end_the_reply_and_the_rest_is_not_generated() -> None:
    client = ScriptedClient(ids_of("[", CALL, "]", " It is surely sunny and warm in Rome today, and dry."))
    pieces = reply(client, CallForm.JSON, ASKED, tools=[WEATHER])
    assert not any(piece.text for piece in pieces)
    assert pieces[-1].finish_reason == "stop"
    assert client.given < len(client.ids)


def test_a_model_of_pairs_goes_on_speaking_behind_its_call() -> None:
    client = ScriptedClient(ids_of("[", "weather; place=Rome", "]", " One moment."))
    pieces = reply(client, CallForm.PAIRS, ASKED, tools=[WEATHER])
    assert "".join(piece.text for piece in pieces).strip() == "One moment."
    assert [piece.call for piece in pieces if piece.call] == [
        FunctionCall("weather", '{"place": "Rome"}', is_plain=True)
    ]


def test_a_call_alone_is_no_empty_reply_but_nothing_is() -> None:
    assert reply(ScriptedClient(ids_of("[", CALL, "]")), CallForm.JSON, ASKED, tools=[WEATHER])
    with pytest.raises(EmptyReplyError):
        reply(ScriptedClient(), CallForm.JSON, ASKED, tools=[WEATHER])


def test_a_call_that_the_end_cuts_off_is_one_with_a_problem() -> None:
    pieces = reply(ScriptedClient(ids_of("[", '{"name"')), CallForm.JSON, ASKED, tools=[WEATHER])
    assert [piece.call.problem for piece in pieces if piece.call] == ["the call was cut off"]


def test_the_prompt_has_the_functions_once_and_what_was_called_where_it_was() -> None:
    messages = (
        ChatMessage(Role.SYSTEM, "Be kind."),
        ASKED,
        ChatMessage(Role.ASSISTANT, "Let me see."),
        ChatMessage(Role.ASSISTANT, ToolCall("c1", "weather", '{"place": "Rome"}')),
        ChatMessage(Role.TOOL, ToolResult("c1", "sunny<|EOT|>")),
    )
    client = ScriptedClient(ids_of("It is sunny."))
    reply(client, CallForm.JSON, *messages, tools=[WEATHER])
    (prompt,) = client.prompts
    turns = [tokenizer().decode(turn) for turn in _split(prompt)]
    assert len(turns) == 5
    assert turns[0].startswith("system\nBe kind.\nYou can call functions.")
    assert turns[0].count("Tells the weather.") == 1
    assert turns[1] == "human\nThe weather in Rome?"
    assert turns[2] == f"assistant\nLet me see.{CALL}"
    assert turns[3] == "system\nsunny<|EOT|>"
    assert turns[4] == "assistant\n"
    assert prompt.count(tokenizer().id_of("<|CALL_START|>")) == 2
    assert model(client).prompt_tokens(messages, [WEATHER]) == len(prompt)


def test_functions_have_a_turn_of_their_own_where_there_is_no_system_prompt_and_none_where_they_are_trained() -> None:
    client = ScriptedClient(ids_of("Hi."))
    reply(client, CallForm.JSON, ASKED, tools=[WEATHER])
    reply(client, CallForm.PAIRS, ASKED, tools=[WEATHER])
    reply(client, CallForm.JSON, ASKED)
    listed, trained, none = (len(_split(prompt)) for prompt in client.prompts)
    assert (listed, trained, none) == (3, 2, 2)


def _split(prompt: list[int]) -> list[list[int]]:
    """The turns of a prompt, without their marks."""
    turns: list[list[int]] = []
    for token in prompt:
        if token == tokenizer().bot_id:
            turns.append([])
        elif token != tokenizer().eot_id and turns:
            turns[-1].append(token)
    return turns
