"""The lm room: a conversation to the text of a reply, and speech to its transcript.

    messages ── prompt ──> ids ── step1_chat ──> ids, one at a time ── decoder ──> whole characters

The same prompt, seed and defaults as `services.lm.chat` give the same text. A seed that nobody chose is drawn by the
engine. It refuses to know voices, clauses and what stays in a history that grows too long.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace

from services.orchestrator.adapters.triton.asking import IdsPiece, generate
from services.orchestrator.conversation.options import GenerationOptions, Tool
from services.orchestrator.conversation.record import Role, ToolCall, ToolResult
from services.orchestrator.ports.rooms import ChatMessage, FunctionCall, SpeechTokens, TextPiece, Work
from services.shared.errors import EmptyReplyError, PromptTooLongError
from services.shared.prompt.chat import (
    CallContent,
    CallForm,
    CallReader,
    FunctionSchema,
    Message,
    SpeechContent,
    WrittenCall,
    build_asr_prompt,
    build_chat_prompt,
    call_content,
    result_message,
    system_with_functions,
)
from services.shared.sampling import ASR_PARAMS, SamplingParams
from services.shared.step1_config import Step1Config
from services.shared.text import TextTokenizer
from services.shared.triton.client import TritonClient
from services.shared.triton.specs import STEP1_CHAT


class TritonChatModel:
    """The chat model of one checkpoint, on the servers of one pool."""

    def __init__(
        self,
        client: TritonClient,
        tokenizer: TextTokenizer,
        config: Step1Config,
        params: SamplingParams,
        *,
        reply_timeout_s: float,
        transcribe_timeout_s: float,
        call_form: CallForm = CallForm.JSON,
    ) -> None:
        """Make it.

        Args:
            client: of the pool's servers.
            tokenizer: the checkpoint's.
            config: the checkpoint's sizes.
            params: how a reply is generated where its caller chose nothing.
            reply_timeout_s: for a whole reply.
            transcribe_timeout_s: for a whole transcript.
            call_form: how the checkpoint is told of functions and calls them.
        """
        self._client = client
        self._tokenizer = tokenizer
        self._params = params
        self._context_tokens = config.max_seq_len
        self._stop_ids = tuple(sorted({tokenizer.eot_id, *config.eos_ids}))
        self._reply_timeout_s = reply_timeout_s
        self._transcribe_timeout_s = transcribe_timeout_s
        self._call_form = call_form

    @property
    def context_tokens(self) -> int:
        """Longest prompt and reply together."""
        return self._context_tokens

    def prompt_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> int:
        """Tokens of the prompt that these messages make, with these functions to call."""
        return len(self._prompt(messages, tools))

    async def reply(
        self,
        messages: Sequence[ChatMessage],
        options: GenerationOptions,
        work: Work,
        *,
        begun: str = "",
        tools: Sequence[Tool] = (),
    ) -> AsyncGenerator[TextPiece, None]:
        """Give the assistant's next turn, as it is generated; closing it cancels it in the engine.

        Args:
            messages: the conversation, oldest first.
            options: how to generate; `max_new_tokens` is cut to what the context has left.
            work: whose work it is.
            begun: text that the turn begins with already; what follows it is given, perhaps nothing.
            tools: functions that it may call.

        Yields:
            A piece for each id, a piece for each call, and a last one with the finish reason.

        Raises:
            PromptTooLongError: the context has no room for one token.
            InvalidInputError: no messages, or an option outside its range.
            EmptyReplyError: the model stopped before the first character.
            RoomUnavailableError, DeadlineExceededError, OverloadedError, GenerationError: as they say.
        """
        sampling = self._sampling(options)
        is_empty = not begun
        prompt = self._prompt(messages, tools, begun)
        async with aclosing(self._stream(prompt, sampling, work, self._reply_timeout_s)) as pieces:
            async for piece in pieces:
                is_empty = is_empty and not piece.text and piece.call is None
                if is_empty and piece.finish_reason:
                    raise EmptyReplyError(
                        "the model ended its reply before the first character; try again with another seed"
                    )
                yield piece

    async def transcribe(self, tokens: Sequence[int], work: Work) -> str:
        """Write down what was said.

        Args:
            tokens: codec values [T], interleaved 2:3.
            work: whose work it is; of an earlier turn's speech, with the session's newest epoch.

        Returns:
            The likeliest words; none where nothing was understood, or nothing was said.

        Raises:
            UnknownTokenError: a value outside the codec.
            As `reply`.
        """
        if not tokens:
            return ""
        prompt = build_asr_prompt(self._tokenizer, SpeechContent(tokens))
        async with aclosing(self._stream(prompt, ASR_PARAMS, work, self._transcribe_timeout_s)) as pieces:
            return "".join([piece.text async for piece in pieces])

    async def _stream(
        self, prompt_ids: list[int], sampling: SamplingParams, work: Work, timeout_s: float
    ) -> AsyncGenerator[TextPiece, None]:
        reader = CallReader(self._tokenizer, self._call_form)
        sampling = self._bounded(prompt_ids, sampling)
        ids = generate(self._client, STEP1_CHAT, prompt_ids, sampling, work=work, timeout_s=timeout_s)
        async with aclosing(ids) as answers:
            async for answer in answers:
                parts = list(reader.push(answer.ids))
                reason = answer.finish_reason or ("stop" if reader.is_over else "")
                parts += reader.finish() if reason else ()
                for piece in _pieces(parts, answer, reason):
                    yield piece
                if reason:
                    return

    def _prompt(self, messages: Sequence[ChatMessage], tools: Sequence[Tool], begun: str = "") -> list[int]:
        functions = [FunctionSchema(tool.name, tool.description, tool.parameters_json) for tool in tools]
        said = _turns(messages, functions, self._call_form)
        return build_chat_prompt(self._tokenizer, [*said, Message("assistant", None, begun)])

    def _sampling(self, options: GenerationOptions) -> SamplingParams:
        own = self._params
        return SamplingParams(
            max_new_tokens=options.max_new_tokens,
            temperature=own.temperature if options.temperature is None else options.temperature,
            top_k=own.top_k if options.top_k is None else options.top_k,
            top_p=own.top_p if options.top_p is None else options.top_p,
            seed=options.seed,
        )

    def _bounded(self, prompt_ids: list[int], sampling: SamplingParams) -> SamplingParams:
        room = self._context_tokens - len(prompt_ids)
        if room < 1:
            raise PromptTooLongError(
                f"the conversation takes {len(prompt_ids)} of {self._context_tokens} tokens and leaves no room for a "
                "reply; send less of it",
                limit=str(self._context_tokens),
                value=str(len(prompt_ids)),
            )
        return replace(sampling, max_new_tokens=min(sampling.max_new_tokens, room), stop_ids=self._stop_ids)


def _pieces(parts: list[str | WrittenCall], answer: IdsPiece, reason: str) -> Iterator[TextPiece]:
    """What one answer gives: its words and calls in order, its tokens and the finish reason with the last."""
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
        else:
            call = FunctionCall(part.name, part.arguments_json, part.problem, part.is_plain)
            yield TextPiece(text, 0, call=call)
            text = ""
    yield TextPiece(text, len(answer.ids), reason)


def _turns(messages: Sequence[ChatMessage], functions: Sequence[FunctionSchema], form: CallForm) -> list[Message]:
    """A conversation as turns: functions with the first system prompt, words and calls of one turn together."""
    turns: list[Message] = []
    if not functions or (messages and messages[0].role is Role.SYSTEM):
        known = list(messages)
    else:
        known = [ChatMessage(Role.SYSTEM, ""), *messages]
    for place, message in enumerate(known):
        content = message.content
        if isinstance(content, ToolResult):
            turns.append(result_message(content.text, is_error=content.is_error))
        elif isinstance(content, SpeechTokens):
            turns.append(Message(message.role.value, SpeechContent(content.tokens)))
        elif message.role is Role.ASSISTANT:
            part = (
                call_content(content.name, content.arguments_json, form) if isinstance(content, ToolCall) else content
            )
            _add_said(turns, part)
        elif isinstance(content, str):
            is_first = place == 0 and message.role is Role.SYSTEM
            written = system_with_functions(content, functions, form) if is_first else content
            if written or not is_first:
                turns.append(Message(message.role.value, written))
    return turns


def _add_said(turns: list[Message], part: str | CallContent) -> None:
    """Put what the agent said next behind what it said or called just before; words alone stay turns of their own."""
    last = turns[-1] if turns and turns[-1].role == "assistant" else None
    if last is None or (isinstance(last.content, str) and isinstance(part, str)):
        turns.append(Message("assistant", part if isinstance(part, str) else (part,)))
        return
    before = (last.content,) if isinstance(last.content, str) else last.content
    assert isinstance(before, tuple)
    turns[-1] = Message("assistant", (*before, part))
