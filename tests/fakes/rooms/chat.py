"""The fake lm room: it answers what it is told to answer."""

import math
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from services.orchestrator.conversation.options import GenerationOptions, Tool
from services.orchestrator.conversation.record import ToolCall, ToolResult
from services.orchestrator.ports.rooms import ChatMessage, FunctionCall, SpeechTokens, TextPiece, Work
from services.shared.codec import GROUP_TOKENS
from services.shared.errors import EmptyReplyError, PromptTooLongError
from services.shared.prompt.chat import CallForm, read_call
from services.shared.prompt.chat.call_marks import CALL_END, CALL_START
from tests.fakes.rooms.room import INSTANT, FakeRoom, Paces, Sleep

TEXT_TOKEN_LETTERS: Final = 4


class FakeChatModel(FakeRoom):
    """Answers what it is told to answer.

    Attributes:
        answers: the next replies; when none is left, the last message is repeated.
        transcripts: the next transcripts; when none is left, the length of the speech in words.
        asked: the messages of every reply, in order.
        begun_texts: the text that each of them had begun with already.
        offered: names of the functions that each of them could call.
        heard: the tokens of every transcription.
    """

    def __init__(self, paces: Paces = INSTANT, sleep: Sleep | None = None, *, context_tokens: int = 4096) -> None:
        super().__init__(sleep)
        self.answers: deque[str] = deque()
        self.transcripts: deque[str] = deque()
        self.asked: list[tuple[ChatMessage, ...]] = []
        self.begun_texts: list[str] = []
        self.offered: list[tuple[str, ...]] = []
        self._answer = ""
        self.heard: list[tuple[int, ...]] = []
        self._paces = paces
        self._context_tokens = context_tokens

    @property
    def context_tokens(self) -> int:
        """See the port."""
        return self._context_tokens

    def prompt_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> int:
        """One token for four letters, one for each of speech, and four for the turn; the same for functions."""
        offered = sum(4 + len(tool.description + tool.parameters_json) // TEXT_TOKEN_LETTERS for tool in tools)
        return sum(4 + _content_tokens(message) for message in messages) + 3 + offered

    async def reply(
        self,
        messages: Sequence[ChatMessage],
        options: GenerationOptions,
        work: Work,
        *,
        begun: str = "",
        tools: Sequence[Tool] = (),
    ) -> AsyncGenerator[TextPiece, None]:
        """See the port: a word a piece, a token a word; a turn that has begun goes on as it began.

        What stands between the marks of a call is read as JSON, and given once it is whole.
        """
        with self.one_call(work):
            self.asked.append(tuple(messages))
            self.offered.append(tuple(tool.name for tool in tools))
            self.begun_texts.append(begun)
            fault = self.next_fault()
            room = self._context_tokens - self.prompt_tokens(messages)
            if room < 1:
                raise PromptTooLongError(f"the conversation takes all of {self._context_tokens} tokens")
            if not begun or not self._answer.startswith(begun):
                self._answer = self.answers.popleft() if self.answers else _repeated(messages)
            words = _words(self._answer.removeprefix(begun))
            allowed = words[: min(room, options.max_new_tokens)]
            for place, word in enumerate(allowed):
                await self.output(place, self._paces.reply, fault)
                yield TextPiece(word, 1) if isinstance(word, str) else TextPiece("", 1, call=word)
            await self.output(len(allowed), self._paces.reply, fault)
            if not allowed and not begun:
                raise EmptyReplyError("the model ended its reply before the first character")
            yield TextPiece("", 0, "stop" if len(allowed) == len(words) else "length")

    async def transcribe(self, tokens: Sequence[int], work: Work) -> str:
        """See the port."""
        if not tokens:
            return ""
        with self.one_call(work):
            self.heard.append(tuple(tokens))
            await self.output(0, self._paces.transcribe, self.next_fault())
            return self.transcripts.popleft() if self.transcripts else f"{len(tokens) // GROUP_TOKENS} groups"


def _words(text: str) -> list[str | FunctionCall]:
    words: list[str | FunctionCall] = []
    for place, part in enumerate(text.replace(CALL_END, CALL_START).split(CALL_START)):
        if place % 2:
            call = read_call(part, CallForm.JSON)
            words.append(FunctionCall(call.name, call.arguments_json, call.problem))
            continue
        words += [word + " " for word in part.split(" ")[:-1]] + [word for word in part.split(" ")[-1:] if word]
    return words


def _repeated(messages: Sequence[ChatMessage]) -> str:
    content = messages[-1].content
    match content:
        case SpeechTokens(tokens=tokens):
            return f"I heard {len(tokens)} tokens."
        case ToolResult(text=text, is_error=is_error):
            return f"It failed: {text}" if is_error else f"It gave: {text}"
    return f"You said: {content}"


def _content_tokens(message: ChatMessage) -> int:
    match message.content:
        case SpeechTokens(tokens=tokens):
            return len(tokens)
        case ToolCall(name=name, arguments_json=arguments):
            return math.ceil(len(name + arguments) / TEXT_TOKEN_LETTERS)
        case ToolResult(text=text) | str(text):
            return math.ceil(len(text) / TEXT_TOKEN_LETTERS)
