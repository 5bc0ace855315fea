"""One reply from its context to its samples, every stage at work at once, in one TaskGroup.

    chat model   It rains. | In Lisbon the sun | shines. ■
    text         ──────────> client
    clauses                │ It rains. In …  │            door: estimated ms
    speech model           ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒ ▒▒▒▒▒▒▒▒      door: ms of speech, can be taken back
    vocoder                   ▓▓▓ ▓▓▓▓▓▓ ▓▓▓▓▓▓▓▓▓▓▓ ▓▓▓    door: ms of audio
    released                  ♪♪♪♪♪♪♪♪♪♪♪♪♪♪♪♪♪♪♪♪♪♪♪♪♪♪♪   never too far ahead of the listener

What the reply says and sounds like is fixed by context, voice and seeds; how it was cut on the way is not heard.
A reply that is prepared ahead stops at its first audio until it is committed (gate.py). Whatever goes wrong, and
whenever it is cancelled, `run` ends only when every room has been let go.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing, closing
from dataclasses import dataclass

from services.orchestrator.conversation.effects import ResumeReply, StartReply
from services.orchestrator.conversation.events import ReplyAudioMade, ReplyTakenUp, ReplyTextMade, ToolCallMade
from services.orchestrator.conversation.record import Role, RoomName, ToolCall, ToolResult, UtteranceSpeech
from services.orchestrator.pipeline.calls import checked_call
from services.orchestrator.pipeline.channel import Channel
from services.orchestrator.pipeline.clause_voices import ClauseVoices, FindVoice
from services.orchestrator.pipeline.context import read_messages
from services.orchestrator.pipeline.gate import Gate
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.pipeline.made import AudioPiece, Made, Start
from services.orchestrator.pipeline.meter import Meter
from services.orchestrator.pipeline.pacing import Pacing
from services.orchestrator.pipeline.rations import Rations
from services.orchestrator.pipeline.speaking import Manner, Speaking
from services.orchestrator.pipeline.speech_door import Clause, SpeechDoor
from services.orchestrator.pipeline.text import Trimmer, VisibleText
from services.orchestrator.pipeline.utterances import KnownUtterance, SpokenUtterance
from services.orchestrator.pipeline.watch import Watch
from services.orchestrator.pipeline.window import ContextWindow
from services.orchestrator.ports.rooms import ChatMessage, FunctionCall, PreparedVoice, Rooms, SpeechTokens, Work
from services.shared.errors import (
    DeadlineExceededError,
    EmptyAudioError,
    EmptyReplyError,
    GenerationError,
    NothingToSpeakError,
    PromptTooLongError,
    StepAudioError,
)
from services.shared.prompt.speech.clauses import ClauseSplitter
from services.shared.prompt.speech.speech_length import estimate_speech_s
from services.shared.prompt.speech.tags import leading_tags

_LOOK_AGAIN_S = 0.01, 0.25
"""Shortest and longest wait for audio to be played: an acknowledgement may bring more than the clock."""

Tell = Callable[[ReplyTextMade | ReplyAudioMade | ReplyTakenUp | ToolCallMade], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReplyNeeds:
    """What every reply of a session is made with.

    Attributes:
        rooms: where the models are.
        find_voice: gives the session's voice by its id.
        utterance: gives an utterance by its number.
        lead_s: how far the audio that was sent runs ahead of what was heard: by the client's word, where it gives it.
        tell: takes the reply's events.
        clock: monotonic seconds.
        limits: bounds and patience.
        window: of what the chat model reads; None where words are given.
        rations: what the replica's replies do without now; None gives up nothing.
        slack_s: as `lead_s`, of a listener who hears no faster than in real time; None is `lead_s` itself.
    """

    rooms: Rooms
    find_voice: FindVoice
    utterance: Callable[[int], SpokenUtterance | KnownUtterance]
    lead_s: Callable[[], float]
    tell: Tell
    clock: Callable[[], float]
    limits: PipelineLimits
    window: ContextWindow | None = None
    rations: Rations | None = None
    slack_s: Callable[[], float] | None = None


class Reply:
    """The work of one reply.

    Args:
        effect: what was asked for.
        needs: what it is made with.
        work: what every request carries.
        meter: measures the rooms.
        seed: of the voice.
        made: what was made of it before it was stopped, if it was; takes what is made now.

    Attributes:
        made: what is made of it.
    """

    def __init__(
        self,
        effect: StartReply | ResumeReply,
        needs: ReplyNeeds,
        *,
        work: Work,
        meter: Meter,
        seed: int,
        made: Made,
    ) -> None:
        self.made = made
        self._asked = effect
        self._start = Start()
        self._hidden_characters = 0
        if isinstance(effect, ResumeReply):
            self._start = self.made.rewind(effect.first_sample)
            self._hidden_characters = len(effect.text) - effect.part_character
        self._untold: list[str] | None = [] if self.made.is_foreign else None
        is_ahead = isinstance(effect, StartReply) and effect.is_speculative
        self._needs = needs
        self._work = work
        self._meter = meter
        self._limits = needs.limits.reply
        self._clauses: Channel[Clause] = Channel(self._limits.clauses_ms)
        self._audio: Channel[AudioPiece] = Channel(self._limits.audio_ms)
        self._gate = Gate(is_open=not is_ahead, ahead_ms=self._limits.prepared_ms)
        pacing = Pacing(
            self._limits,
            needs.rations,
            ahead_ms=self._slack_ms,
            gate=self._gate,
            meter=meter,
            has_seed=effect.options.voice.seed is not None,
        )
        self._door = SpeechDoor(self._limits, self._ahead_ms, pacing.first_chunk_ms)
        self._speaking = Speaking(
            needs.rooms,
            work,
            _manner(effect, seed, self._start, self.made),
            limits=self._limits,
            meter=meter,
            door=self._door,
            gate=self._gate,
            pacing=pacing,
        )
        self._calls = 0
        self._visible = VisibleText()
        self._trimmer = Trimmer()
        self._splitter = ClauseSplitter()

    async def run(self) -> None:
        """Work it out and report text and audio.

        Raises:
            StepAudioError: what the first room to fail raised.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._speak_and_voice())
                tasks.create_task(self._release())
                await self._write_all()
        except ExceptionGroup as group:
            raise _first(group) from group

    def commit(self) -> None:
        """It was prepared ahead and is spoken now."""
        self._gate.open()

    # Text.

    async def _write_all(self) -> None:
        begun = self.made.written
        if self._asked.words:
            self._meter.mark(1)
            await self._write(self._asked.words)
        elif self.made.is_written:
            self._meter.mark(1)
            await self._write(begun)
        else:
            try:
                await self._think(begun)
            except (GenerationError, PromptTooLongError) as error:
                await self._apologise(error)
        self.made.is_written = True
        self._show(self._visible.finish())
        try:
            await self._hand_over(self._splitter.finish())
        except NothingToSpeakError as error:
            if self._asked.words:
                raise
            if not self._calls and not self._follows_calls:
                raise EmptyReplyError("the chat model answered nothing that can be spoken") from error
        self._clauses.close()

    async def _think(self, begun: str) -> None:
        messages = await self._read_context()
        self._meter.mark(1)
        chat, options = self._needs.rooms.chat, self._asked.options
        window = self._needs.window
        assert window is not None
        fitting = window.fit(messages, options)
        self._meter.prompt_tokens = window.prompt_tokens
        await self._write(begun)
        with self._meter.request(RoomName.LM) as request, closing(Watch(self._limits.room_silence_s)) as watch:
            reply = chat.reply(fitting, options.generation, self._work, begun=begun, tools=options.tools)
            async with aclosing(reply) as answer:
                while True:
                    try:
                        with watch:
                            piece = await anext(answer)
                    except StopAsyncIteration:
                        window.sum_up(messages, options)
                        return
                    except TimeoutError as error:
                        raise DeadlineExceededError(
                            f"the chat model gave nothing for {self._limits.room_silence_s:g} s"
                        ) from error
                    request.output()
                    self._meter.text_tokens += piece.tokens
                    self.made.written += piece.text
                    await self._write(piece.text)
                    if piece.call is not None:
                        self._call(piece.call)

    def _call(self, written: FunctionCall) -> None:
        """Report a call of a function."""
        tools = self._asked.options.tools
        if not tools:
            _log.warning("the chat model calls a function where none was offered; the call is dropped")
            return
        reply = self._asked.reply
        self._calls += 1
        self.made.is_written = True  # on going on, the model is not asked again: it would call again
        arguments_json, problem = checked_call(written, tools)
        call_id = f"call-{reply.turn}-{reply.epoch}-{reply.part}-{self._calls}"
        call = ToolCall(call_id, written.name, arguments_json)
        self._needs.tell(ToolCallMade(self._needs.clock(), reply, call, problem))

    @property
    def _follows_calls(self) -> bool:
        """Whether this part of the reply is to say what functions gave."""
        context = self._asked.context
        return bool(context) and context[-1].role is Role.TOOL

    async def _apologise(self, error: StepAudioError) -> None:
        """Say the apology where the model has nothing to say to what functions gave; else it is the reply's error.

        After a call that went well, words said to the user before it are enough.
        """
        if not self._follows_calls or self._visible.text:
            raise error
        _log.warning("the chat model says nothing to calls of functions", extra={"reason": error.reason})
        speech = self._asked.options.tool_speech
        turn = list(reversed(self._asked.context))
        turn = turn[: next((place for place, part in enumerate(turn) if part.role is Role.USER), len(turn))]
        has_failed = any(isinstance(part.content, ToolResult) and part.content.is_error for part in turn)
        said = (part.content for part in turn if part.role is Role.ASSISTANT and isinstance(part.content, str))
        is_said = any(words.replace(speech.notice, "").strip() for words in said)
        if speech.apology and (has_failed or not is_said or not isinstance(error, EmptyReplyError)):
            await self._write(speech.apology)

    async def _read_context(self) -> tuple[ChatMessage, ...]:
        messages = await read_messages(self._asked.context, self._tokens_of)
        last = self._asked.context[-1].content if self._asked.context else ""
        if isinstance(last, UtteranceSpeech):
            utterance = self._needs.utterance(last.utterance)
            if isinstance(utterance, SpokenUtterance):
                self._meter.heard(utterance.work, *utterance.finished_s)
            if messages[-1].content == SpeechTokens(()):
                raise EmptyAudioError("the user's speech is too short to hold a speech token")
        return messages

    async def _tokens_of(self, speech: UtteranceSpeech) -> tuple[int, ...]:
        utterance = self._needs.utterance(speech.utterance)
        try:
            async with asyncio.timeout(self._needs.limits.tokens_s):
                if speech.end_sample is not None:
                    return await utterance.tokens_before(speech.end_sample)
                return await utterance.tokens()
        except TimeoutError as error:
            raise DeadlineExceededError("the tokens of the user's speech did not come in time") from error

    async def _write(self, text: str) -> None:
        text = self._trimmer.push(text)
        self._show(self._visible.push(text))
        await self._hand_over(self._splitter.push(text))

    def _show(self, text: str) -> None:
        hidden = min(self._hidden_characters, len(text))
        self._hidden_characters -= hidden
        text = text[hidden:]
        if text and self._untold is not None:
            self._untold.append(text)
        elif text:
            self._needs.tell(ReplyTextMade(self._needs.clock(), self._asked.reply, text))

    async def _hand_over(self, clauses: list[str]) -> None:
        for text in clauses:
            self._meter.mark(2)
            estimate_s = estimate_speech_s(text[len(leading_tags(text)) :])
            length_ms = min(estimate_s * 1000, self._limits.clauses_ms)
            await self._clauses.put(Clause(text, *self._visible.locate(text), estimate_s), length_ms)

    # Speech and audio.

    async def _speak_and_voice(self) -> None:
        options = self._asked.options.voice
        voices = ClauseVoices(await self._find_voice(options.voice_id), self._find_voice)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._speaking.speak(self._clauses, voices))
            tasks.create_task(self._speaking.voice(self._audio, voices))

    async def _find_voice(self, voice_id: str) -> PreparedVoice:
        try:
            async with asyncio.timeout(self._needs.limits.voice_s):
                return await self._needs.find_voice(voice_id)
        except TimeoutError as error:
            raise DeadlineExceededError("the voice was not found in time") from error

    def _ahead_ms(self) -> float:
        return self._needs.lead_s() * 1000 + self._audio.held_ms

    def _slack_ms(self) -> float:
        slack_s = self._needs.slack_s or self._needs.lead_s
        return slack_s() * 1000 + self._audio.held_ms

    async def _release(self) -> None:
        for kept in self._start.pieces:
            await self._report(kept)
        async for piece in self._audio:
            self._take_up()
            await self._report(piece)
        self._take_up()

    def _take_up(self) -> None:
        """Say that a reply of another replica goes on, once it is known how much of its text was spoken before."""
        if self._untold is None:
            return
        untold, self._untold, self.made.is_foreign = self._untold, None, False
        spoken = self._speaking.skipped_characters
        self._needs.tell(ReplyTakenUp(self._needs.clock(), self._asked.reply, can_go_on=True, spoken_characters=spoken))
        self._show("".join(untold))

    async def _report(self, piece: AudioPiece) -> None:
        rate_hz = self._needs.rooms.vocoder.sample_rate_hz
        await self._until_near((piece.end_sample - piece.first_sample) / rate_hz)
        made = ReplyAudioMade(
            self._needs.clock(),
            self._asked.reply,
            piece.first_sample,
            piece.end_sample,
            piece.spoken_characters,
            piece.samples,
            piece.marks,
        )
        self._needs.tell(made)
        self.made.forget(piece.end_sample - rate_hz * self._limits.max_playout_lead_ms // 1000)

    async def _until_near(self, length_s: float) -> None:
        """Wait until audio of this length may be sent."""
        shortest_s, longest_s = _LOOK_AGAIN_S
        while (over_s := self._needs.lead_s() + length_s - self._limits.max_playout_lead_ms / 1000) > 0:
            await asyncio.sleep(min(max(over_s, shortest_s), longest_s))


def _manner(effect: StartReply | ResumeReply, seed: int, start: Start, made: Made) -> Manner:
    voice = effect.options.voice
    if isinstance(effect, ResumeReply):
        return Manner(voice, seed, effect.part_sample, effect.part_character, start, made)
    return Manner(voice, seed, effect.first_sample, effect.first_character, start, made)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong first; an error of the project's own before any other."""
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves.append(_first(error) if isinstance(error, BaseExceptionGroup) else error)
    return next((error for error in leaves if isinstance(error, StepAudioError)), leaves[0])
