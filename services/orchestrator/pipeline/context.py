"""What the chat model reads: the conversation's messages with speech as tokens, cut to what fits.

The oldest turns are dropped first; the system prompt, system messages at the head of the history and the user's last
message never are. Where what functions gave in the last turn is too long even so, it is cut, and says so.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from services.orchestrator.conversation.history import shortened
from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.record import Message, Role, ToolResult, UtteranceSpeech
from services.orchestrator.ports.rooms import ChatMessage, ChatModel, SpeechTokens

_SHORTEST_RESULT: Final = 64
"""Characters that a result keeps in any case."""

TokensOf = Callable[[UtteranceSpeech], Awaitable[tuple[int, ...]]]
"""The speech tokens of an utterance, or of what was said of it so far, when they are there."""


async def read_messages(messages: Sequence[Message], tokens_of: TokensOf) -> tuple[ChatMessage, ...]:
    """Put speech tokens where the conversation names an utterance.

    Raises:
        StepAudioError: as `tokens_of`.
    """
    read = []
    for message in messages:
        content = message.content
        if isinstance(content, UtteranceSpeech):
            read.append(ChatMessage(message.role, SpeechTokens(await tokens_of(content))))
        else:
            read.append(ChatMessage(message.role, content))
    return tuple(read)


def fit_messages(
    messages: Sequence[ChatMessage], chat: ChatModel, options: Options, *, default_prompt: str
) -> tuple[ChatMessage, ...]:
    """Put the system prompt in front and drop oldest turns until the prompt fits.

    Args:
        messages: of the conversation, oldest first.
        chat: counts the tokens.
        options: the system prompt, functions, the context's limit and the longest reply.
        default_prompt: the system prompt where the caller chose none; empty for none.

    Returns:
        The messages. Where even the last turn alone is too long it is left to the chat model to refuse it.
    """
    budget, tools = _budget(chat.context_tokens, options), options.tools
    prompt = options.system_prompt or default_prompt
    head = [ChatMessage(Role.SYSTEM, prompt)] if prompt else []
    body = list(messages)
    if body[:1] == head:  # the conversation's own messages begin with it
        del body[:1]
    while body and body[0].role is Role.SYSTEM:
        head.append(body.pop(0))
    starts = [0, *(place for place, message in enumerate(body) if place and message.role is Role.USER)]
    low, high = 0, len(starts) - 1  # the first start from which on all fits; the last one is taken in any case
    if chat.prompt_tokens([*head, *body], tools) <= budget:
        high = 0
    while low < high:
        middle = (low + high) // 2
        if chat.prompt_tokens([*head, *body[starts[middle] :]], tools) <= budget:
            high = middle
        else:
            low = middle + 1
    fitting = [*head, *body[starts[low] :]]
    longest = max(map(_result_characters, fitting), default=0)
    while longest > _SHORTEST_RESULT and chat.prompt_tokens(fitting, tools) > budget:
        longest //= 2
        fitting = [*head, *(_with_shorter_result(message, longest) for message in body[starts[low] :])]
    return tuple(fitting)


def _result_characters(message: ChatMessage) -> int:
    return len(message.content.text) if isinstance(message.content, ToolResult) else 0


def _with_shorter_result(message: ChatMessage, characters: int) -> ChatMessage:
    content = message.content
    if not isinstance(content, ToolResult):
        return message
    return replace(message, content=replace(content, text=shortened(content.text, characters)))


def _budget(context_tokens: int, options: Options) -> int:
    """Tokens for the prompt: the model's context less the longest reply, and no more than the caller wants."""
    room = max(context_tokens - options.generation.max_new_tokens, context_tokens // 2)
    return min(room, options.context.max_context_tokens or room)
