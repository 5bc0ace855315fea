"""The lm room: a conversation to the text of a reply, and speech to its transcript.

    messages ── prompt ──> ids ── step1_chat ──> ids, one at a time ── decoder ──> whole characters

The same prompt, seed and defaults as `services.lm.chat` give the same text. A seed that nobody chose is drawn by the
engine. It refuses to know voices, clauses and what stays in a history that grows too long.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from services.orchestrator.adapters.triton.asking import IdsPiece, generate
from services.orchestrator.conversation.options import GenerationOptions
from services.orchestrator.ports.rooms import ChatMessage, SpeechTokens, TextPiece, Work
from services.shared.errors import EmptyReplyError, PromptTooLongError
from services.shared.prompt.chat import Message, SpeechContent, build_asr_prompt, build_chat_prompt
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
    ) -> None:
        """Make it.

        Args:
            client: of the pool's servers.
            tokenizer: the checkpoint's.
            config: the checkpoint's sizes.
            params: how a reply is generated where its caller chose nothing.
            reply_timeout_s: for a whole reply.
            transcribe_timeout_s: for a whole transcript.
        """
        self._client = client
        self._tokenizer = tokenizer
        self._params = params
        self._context_tokens = config.max_seq_len
        self._stop_ids = tuple(sorted({tokenizer.eot_id, *config.eos_ids}))
        self._reply_timeout_s = reply_timeout_s
        self._transcribe_timeout_s = transcribe_timeout_s

    @property
    def context_tokens(self) -> int:
        """Longest prompt and reply together."""
        return self._context_tokens

    def prompt_tokens(self, messages: Sequence[ChatMessage]) -> int:
        """Tokens of the prompt that these messages make."""
        return len(self._prompt(messages))

    async def reply(
        self, messages: Sequence[ChatMessage], options: GenerationOptions, work: Work, *, begun: str = ""
    ) -> AsyncGenerator[TextPiece, None]:
        """Give the assistant's next turn, as it is generated; closing it cancels it in the engine.

        Args:
            messages: the conversation, oldest first.
            options: how to generate; `max_new_tokens` is cut to what the context has left.
            work: whose work it is.
            begun: text that the turn begins with already; what follows it is given, perhaps nothing.

        Yields:
            A piece for each id, and a last one with the finish reason.

        Raises:
            PromptTooLongError: the context has no room for one token.
            InvalidInputError: no messages, or an option outside its range.
            EmptyReplyError: the model stopped before the first character.
            RoomUnavailableError, DeadlineExceededError, OverloadedError, GenerationError: as they say.
        """
        sampling = self._sampling(options)
        is_empty = not begun
        prompt = self._prompt(messages, begun)
        async with aclosing(self._stream(prompt, sampling, work, self._reply_timeout_s)) as pieces:
            async for piece in pieces:
                is_empty = is_empty and not piece.text
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
        decoder = self._tokenizer.stream_decoder()
        sampling = self._bounded(prompt_ids, sampling)
        ids = generate(self._client, STEP1_CHAT, prompt_ids, sampling, work=work, timeout_s=timeout_s)
        async with aclosing(ids) as answers:
            async for answer in answers:
                text = decoder.push(answer.ids)
                yield _piece(text, answer) if answer.finish_reason is None else _piece(text + decoder.finish(), answer)

    def _prompt(self, messages: Sequence[ChatMessage], begun: str = "") -> list[int]:
        said = [_message(message) for message in messages]
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


def _piece(text: str, answer: IdsPiece) -> TextPiece:
    return TextPiece(text, len(answer.ids), answer.finish_reason or "")


def _message(message: ChatMessage) -> Message:
    content = message.content
    return Message(message.role.value, SpeechContent(content.tokens) if isinstance(content, SpeechTokens) else content)
