"""The parts of what the chat model reads: messages with speech as tokens, what is never dropped, and the budget.

window.py decides which turns are read. The system prompt is the caller's, or the server's where they chose none; where
replies may begin with style tags it asks for them. What functions gave can be cut, and then says so.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from services.orchestrator.conversation.history import shortened
from services.orchestrator.conversation.options import Options
from services.orchestrator.conversation.record import Message, Role, ToolResult, UtteranceSpeech
from services.orchestrator.ports.rooms import ChatMessage, SpeechTokens
from services.shared.prompt.chat import with_style_tags

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


def split_head(
    messages: Sequence[ChatMessage], options: Options, *, default_prompt: str
) -> tuple[list[ChatMessage], list[ChatMessage]]:
    """What is never dropped, the system prompt first, and the turns behind it.

    Args:
        messages: of the conversation, which begin with the caller's system prompt where there is one.
        options: that system prompt, and whether replies may begin with style tags.
        default_prompt: the system prompt where the caller chose none; empty for none.
    """
    body = list(messages)
    if options.system_prompt and body[:1] == [ChatMessage(Role.SYSTEM, options.system_prompt)]:
        del body[0]
    prompt = options.system_prompt or default_prompt
    if options.style_tags:
        prompt = with_style_tags(prompt)
    head = [ChatMessage(Role.SYSTEM, prompt)] if prompt else []
    while body and body[0].role is Role.SYSTEM:
        head.append(body.pop(0))
    return head, body


def longest_result(messages: Sequence[ChatMessage]) -> int:
    """Characters of the longest that a function gave."""
    return max(
        (len(message.content.text) for message in messages if isinstance(message.content, ToolResult)), default=0
    )


def with_shorter_results(messages: Sequence[ChatMessage], characters: int) -> list[ChatMessage]:
    """The messages, with what functions gave cut to so many characters; what is cut says so."""

    def shorter(message: ChatMessage) -> ChatMessage:
        content = message.content
        if not isinstance(content, ToolResult):
            return message
        return replace(message, content=replace(content, text=shortened(content.text, characters)))

    return [shorter(message) for message in messages]


def turn_starts(body: Sequence[ChatMessage]) -> list[int]:
    """Where what is read may begin: the first message, and each of the user's."""
    return [0, *(place for place, message in enumerate(body) if place and message.role is Role.USER)]


def prompt_budget(context_tokens: int, options: Options) -> int:
    """Tokens for the prompt: the model's context less the longest reply, and no more than the caller wants."""
    room = max(context_tokens - options.generation.max_new_tokens, context_tokens // 2)
    return min(room, options.context.max_context_tokens or room)
