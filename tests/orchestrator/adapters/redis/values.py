"""Sessions, turns and voices to be kept."""

import secrets

from services.orchestrator.conversation.options import GenerationOptions, Options, Tool, ToolExecutor, VoiceOptions
from services.orchestrator.conversation.record import (
    FirstAudioBreakdown,
    Message,
    Origin,
    Outcome,
    ReplyBasis,
    ReplyWork,
    Role,
    RoomName,
    RoomWork,
    ToolCall,
    ToolExchange,
    ToolOutcome,
    ToolResult,
    TurnMetrics,
    Utterance,
)
from services.orchestrator.ports.store import Consent, KeptTurn, KeptVoice, NewSession, OpenTurn, StreamFormats

FORMATS = StreamFormats("pcm16", 16_000, "opus", 48_000, 20)
OPTIONS = Options(
    voice=VoiceOptions(voice_id="闫雨婷", speed=1.25, seed=2**62 + 1),
    generation=GenerationOptions(temperature=0.1, top_k=None),
    system_prompt="你是一个语音助手 { } ; \" ' \n\x00",
    tools=(Tool("weather", "Tells the weather.", '{"type": "object"}', 500, ToolExecutor.HTTP_ENDPOINT, "sky"),),
)
EXCHANGE = (
    Message(Role.ASSISTANT, ToolCall("call-1", "weather", '{"place": "Rome"}')),
    Message(Role.TOOL, ToolResult("call-1", "no such place", is_error=True)),
)
METRICS = TurnMetrics(
    first_audio=FirstAudioBreakdown(0.1, 0.2, 1 / 3, 1e-9, 0.0, 123456.789),
    work=ReplyWork((RoomWork(RoomName.LM, 2, 0.5, 0.25), RoomWork(RoomName.TTS, 3, 1.5, 0.125)), 100, 20, 300),
    user_audio_ms=1200,
    reply_audio_ms=2400,
    heard_audio_ms=2300,
    playout_underruns=1,
)
CONSENT = Consent("speaker_agreed", "Ada", "paper 7", 1_700_000_000.25)


def new_session(tenant: str, *, retention_s: int = 3600, created_s: float = 1_800_000_000.0) -> NewSession:
    return NewSession(
        tenant=tenant,
        session_id=secrets.token_hex(8),
        formats=FORMATS,
        options=OPTIONS,
        history=(Message(Role.USER, "你好"), *EXCHANGE, Message(Role.ASSISTANT, "Hello")),
        labels={"call": "17", "é": ""},
        created_s=created_s,
        retention_s=retention_s,
    )


def turn(number: int, text: str = "It rains.") -> KeptTurn:
    start_s = 1_800_000_000.125 + number
    call = ToolCall("call-1", "weather", '{"place": "Rome"}')
    exchange = ToolExchange(call, ToolOutcome.RETURNED, "sunny", ToolExecutor.CLIENT, 0.25)
    return KeptTurn(
        number=number,
        origin=Origin.SPEECH,
        user_text="Rain?",
        agent_text=text,
        outcome=Outcome.COMPLETED,
        start_s=start_s,
        end_s=start_s + 0.7,
        metrics=METRICS,
        request_id=f"r{number}",
        tool_exchanges=(exchange,),
    )


def open_turn(number: int) -> OpenTurn:
    basis = ReplyBasis("Tomorrow it rains.", False, "", 7, Utterance(number, 100, 16_100))
    written = "(sad) Tomorrow it rains."
    return OpenTurn(number, 3, Origin.TEXT, f"r{number}", "And tomorrow?", "Tomor", basis, written, False, (5, 1030))


def voice(
    voice_id: str, *, created_s: float = 1_800_000_000.0, name: str = "Ada", keep_s: float = 86_400.0
) -> KeptVoice:
    return KeptVoice(
        voice_id=voice_id,
        display_name=name,
        transcript="One, two.",
        clip_ms=3000,
        tokens=(0, 5119, 17),
        mel=bytes(range(256)) * 4,
        embedding=b"\x00\xff" * 384,
        consent=CONSENT,
        created_s=created_s,
        expire_s=created_s + keep_s,
    )


def told(kept: KeptVoice) -> tuple[object, ...]:
    """A voice as it compares."""
    return (
        kept.voice_id,
        kept.display_name,
        kept.transcript,
        kept.clip_ms,
        kept.tokens,
        kept.mel,
        kept.embedding,
        kept.consent,
        kept.created_s,
        kept.expire_s,
    )
