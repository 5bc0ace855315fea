"""Which part of a long conversation the chat model reads, so that one prompt begins as the one before it did.

    budget  ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄╱┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄
    tokens              ╱│ a block is dropped     ╱│                 between two blocks every prompt begins with all
    kept   ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄╱┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄╱┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄   of the one before: KV caches hit
             turns ──>

Dropping one turn at a time would move the beginning of every prompt, and an engine would read each from its first turn
again. So the oldest turns leave in blocks, down to `KEPT_SHARE` of the budget. Where the caller asks for it the model
sums the block up, after a reply's text is written and before the block has to go; until that summary is there, a block
that has to go is missing. The system prompt, system messages at the head of the history, and the last turn stay.

It knows no turns' ids: a conversation's messages only grow, so a count of those that left is enough. What it holds is
lost with its replica, and made anew from the history by the next one.
"""

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Final

from services.orchestrator.conversation.options import ContextOverflow, GenerationOptions, Options, Tool
from services.orchestrator.conversation.record import Role, ToolResult
from services.orchestrator.pipeline.context import (
    longest_result,
    prompt_budget,
    split_head,
    turn_starts,
    with_shorter_results,
)
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.ports.rooms import ChatMessage, ChatModel, SpeechTokens, Work
from services.shared.errors import StepAudioError
from services.shared.prompt.chat import SUMMARY_HEADING, SUMMARY_SYSTEM_PROMPT

KEPT_SHARE: Final = 0.6
"""Of the budget, what is kept when a block leaves: the next one leaves after about as much again was said."""

SUMMARY_SHARE: Final = 0.8
"""Of the budget, from where on a block is summed up ahead of its leaving."""

_LONGEST_SUMMARY_TOKENS: Final = 256
_SUMMARY_PART: Final = 8
"""A summary takes at most one part in so many of the budget."""

_SHORTEST_RESULT: Final = 64
"""Characters of what a function gave that are kept in any case."""

_NAMES: Final = {Role.USER: "用户", Role.ASSISTANT: "助手", Role.TOOL: "函数"}

_log = logging.getLogger(__name__)


class ContextWindow:
    """What one session's chat model reads.

    Args:
        chat: counts tokens, and writes summaries.
        limits: how long a summary may take, and how long the rooms may leave it waiting.
        default_prompt: the system prompt where the caller chose none.
        spawn: runs the making of a summary beside everything else, until the session ends.

    Attributes:
        prompt_tokens: of what was given last.
    """

    def __init__(
        self,
        chat: ChatModel,
        limits: PipelineLimits,
        *,
        default_prompt: str,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._chat = chat
        self._limits = limits
        self._default_prompt = default_prompt
        self._spawn = spawn
        self.prompt_tokens = 0
        self._tools: tuple[Tool, ...] = ()
        self._budget = 0
        self._left = 0  # messages of the conversation's turns that are no longer read
        self._summary = ""
        self._summed_up = 0  # messages that the summary stands for
        self._is_writing = False

    def fit(self, messages: Sequence[ChatMessage], options: Options) -> tuple[ChatMessage, ...]:
        """Give what the chat model reads.

        Args:
            messages: of the conversation, oldest first; those of earlier calls begin it.
            options: the system prompt, the context's limit and what is done beyond it.

        Returns:
            The messages, system prompt first. Where even the last turn alone is too long it is left to the chat model
            to refuse it.
        """
        head, body = split_head(messages, options, default_prompt=self._default_prompt)
        self._budget_changed(prompt_budget(self._chat.context_tokens, options))
        if not _sums_up(options):
            self._summary, self._summed_up = "", 0
        self._tools = options.tools
        self._left = _at_a_turn(body, self._left)
        self.prompt_tokens = self._tokens(head, body, self._left)
        if self.prompt_tokens > self._budget:
            self._left = self._block_end(head, body)
            self.prompt_tokens = self._tokens(head, body, self._left)
        return tuple(self._with_fitting_results(self._read(head, body, self._left)))

    def sum_up(self, messages: Sequence[ChatMessage], options: Options) -> None:
        """Have the block that leaves next summed up, if it is time; a reply's text is written, so the model is free.

        Args:
            messages: as they were read last.
            options: in force.
        """
        if not _sums_up(options) or self._is_writing:
            return
        head, body = split_head(messages, options, default_prompt=self._default_prompt)
        end = self._left
        if self.prompt_tokens > SUMMARY_SHARE * self._budget:
            end = self._block_end(head, body)
        block = body[self._summed_up : end]
        if not block or any(isinstance(message.content, SpeechTokens) for message in block):
            return  # speech whose words are not there yet is summed up with them later
        while len(block) > 1 and self._chat.prompt_tokens(self._to_sum_up(block)) > self._longest_block():
            block = block[: len(block) // 2]
        self._is_writing = True
        self._spawn(self._sum_up(block))

    def _with_fitting_results(self, read: list[ChatMessage]) -> list[ChatMessage]:
        """What functions gave in the turns that stay is cut where it is too long even so."""
        longest, fitting = longest_result(read), read
        while longest > _SHORTEST_RESULT and self.prompt_tokens > self._budget:
            longest //= 2
            fitting = with_shorter_results(read, longest)
            self.prompt_tokens = self._chat.prompt_tokens(fitting, self._tools)
        return fitting

    def _budget_changed(self, budget: int) -> None:
        """With another budget the window is chosen anew; what was summed up stays so."""
        if budget != self._budget:
            self._budget, self._left = budget, self._summed_up

    def _read(self, head: Sequence[ChatMessage], body: Sequence[ChatMessage], left: int) -> list[ChatMessage]:
        summary = [ChatMessage(Role.SYSTEM, SUMMARY_HEADING + self._summary)] if self._summary else []
        return [*head, *summary, *body[left:]]

    def _tokens(self, head: Sequence[ChatMessage], body: Sequence[ChatMessage], left: int) -> int:
        return self._chat.prompt_tokens(self._read(head, body, left), self._tools)

    def _block_end(self, head: Sequence[ChatMessage], body: Sequence[ChatMessage]) -> int:
        """Where the window begins once a block has left: the first turn from which on there is room again."""
        starts = [start for start in turn_starts(body) if start > self._left]
        if not starts:
            return self._left
        for share in (KEPT_SHARE, 1.0):
            place = bisect_left(starts, -share * self._budget, key=lambda start: -self._tokens(head, body, start))
            if place < len(starts):
                return starts[place]
        return starts[-1]

    async def _sum_up(self, block: Sequence[ChatMessage]) -> None:
        try:
            async with asyncio.timeout(self._limits.transcript_s):
                summary = await self._written_summary(block)
        except (StepAudioError, TimeoutError) as error:
            _log.warning("a block of the conversation could not be summed up", exc_info=error)
            return
        finally:
            self._is_writing = False
        if summary:
            self._summary, self._summed_up = summary, self._summed_up + len(block)
            self._left = max(self._left, self._summed_up)

    def _to_sum_up(self, block: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
        """What is asked of the model: the summary before, and the block."""
        lines = [SUMMARY_HEADING + self._summary] * bool(self._summary)
        lines += [f"{_NAMES[message.role]}：{_words(message)}" for message in block if _words(message)]
        return ChatMessage(Role.SYSTEM, SUMMARY_SYSTEM_PROMPT), ChatMessage(Role.USER, "\n".join(lines))

    def _longest_block(self) -> int:
        """Tokens that a block may have to be summed up at once."""
        return self._chat.context_tokens - self._longest_summary

    @property
    def _longest_summary(self) -> int:
        return max(1, min(_LONGEST_SUMMARY_TOKENS, self._budget // _SUMMARY_PART))

    async def _written_summary(self, block: Sequence[ChatMessage]) -> str:
        options = GenerationOptions(max_new_tokens=self._longest_summary, temperature=0.0)
        # No session, as for transcripts: an interruption makes rooms drop the session's older work, not this.
        work = Work(slack_ms=self._limits.background_slack_ms)
        async with aclosing(self._chat.reply(self._to_sum_up(block), options, work)) as answer:
            return "".join([piece.text async for piece in answer]).strip()


def _words(message: ChatMessage) -> str:
    """What is summed up of a message: what was said, and what functions gave; nothing of system prompts and calls."""
    if isinstance(message.content, ToolResult):
        return message.content.text
    return message.content if isinstance(message.content, str) and message.role in _NAMES else ""


def _sums_up(options: Options) -> bool:
    return options.context.overflow is ContextOverflow.SUMMARISE


def _at_a_turn(body: Sequence[ChatMessage], left: int) -> int:
    """The count of messages that left, on the next beginning of a turn: a turn without words leaves no message."""
    return next((start for start in turn_starts(body) if start >= left), turn_starts(body)[-1])
