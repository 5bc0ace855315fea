"""Every bound and every patience of the pipeline, with its default; the composition root gives other values."""

from dataclasses import dataclass
from typing import Final

SEQUENCE_HEADROOM: Final = 100_000
"""Events that a session may send between two renewals of its lease: what is kept is an upper bound."""


@dataclass(frozen=True, slots=True)
class ReplyLimits:
    """Streaming one reply.

    Attributes:
        max_playout_lead_ms: audio that is sent ahead of what was heard.
        prepared_ms: that a reply makes ahead, of speech and of audio, before it is known to be spoken.
        prepared_slack_ms: that the rooms may leave a prepared reply waiting behind those that are heard: about the
            shortest time from a pause to the end of a turn.
        release_ms: longest piece in which audio is handed to the conversation's core.
        first_chunk_ms: speech that the vocoder is given first: little more than its first hop and its lookahead.
        max_chunk_ms: speech that it is given later, at most.
        hold_ms: while so much audio lies ahead of the listener, a clause is voiced only when all of it has been
            spoken, so that speech that goes wrong can be made again unheard.
        clauses_ms, speech_ms, audio_ms: capacity of the doors between lm and tts, tts and vocoder, vocoder and core,
            in audio (of clauses: in estimated audio).
        speech_attempts: seeds a clause is tried with.
        room_silence_s: longest wait for the next output of a room.
    """

    max_playout_lead_ms: int = 3_000
    prepared_ms: int = 1_200
    prepared_slack_ms: int = 500
    release_ms: int = 240
    first_chunk_ms: int = 600
    max_chunk_ms: int = 2_400
    hold_ms: int = 1_200
    clauses_ms: int = 60_000
    speech_ms: int = 60_000
    audio_ms: int = 6_000
    speech_attempts: int = 5
    room_silence_s: float = 20.0


@dataclass(frozen=True, slots=True)
class RationLimits:
    """What there is to spend on one replica.

    Attributes:
        tenant_speculations: replies that one tenant may have prepared at once; 0 prepares none.
        tenant_wasted_tokens: of prepared replies thrown away, that one tenant may have generated in a minute.
        max_degradation: levels of the governor, 0 to 3.
        fewer_flow_steps: that a pass of the vocoder takes when it is to take fewer.
        smaller_hop_ms: of audio that a reply's first samples wait for when they are to wait for less,
        smaller_chunk_ms: … and of speech.
    """

    tenant_speculations: int = 16
    tenant_wasted_tokens: int = 60_000
    max_degradation: int = 3
    fewer_flow_steps: int = 4
    smaller_hop_ms: int = 175
    smaller_chunk_ms: int = 480


@dataclass(frozen=True, slots=True)
class PipelineLimits:
    """One replica.

    Attributes:
        reply: of each reply.
        rations: what all replies together may spend.
        hearing_ms: user audio that is kept: the longest utterance, and what a client may send ahead.
        idle_hearing_ms: the same while nobody speaks and speech is found by itself: pre-roll and detection.
        gap_ms: longest gap in the user's audio that is heard as silence: that of a resume at a session's end.
        judged_gap_ms: of a gap, how much is judged; the rest is taken to be the silence that it is.
        unjudged_ms: user audio that may wait for voice activity.
        utterance_batch_ms: user audio that the tokenizer is given at once while it is spoken.
        vad_batch_frames: frames that voice activity judges at once, at most.
        vad_s, turn_model_s, tokens_s, transcript_s, voice_s, store_s: longest waits for voice activity, for the turn
            model, for the rest of an utterance's tokens, for a transcript, for a voice, for one answer of the store.
        background_slack_ms: that the rooms may leave a summary waiting behind replies.
        saved_s: longest that audio waits for the store to have what it is made again from on another replica.
        unread_ms, unread_events: what a client may leave unread.
        waiting_events: client events that may wait for the audio before them to be judged.
        uncommitted_writes: writes that may wait for a store that is away.
        repeatable_turns: `turn_ended` events that are kept to be sent again after a resume.
        max_sessions: of this replica, detached ones included.
        max_tenant_sessions: of one tenant on this replica.
        max_session_s: longest session, detached time included.
        go_away_s: how long before that the client is told.
        max_idle_s: without any message of the client.
        resume_window_s: that a detached session waits.
        renewal_s: between two renewals of a lease.
        closing_s: longest that an ending session waits for its last writes.
    """

    reply: ReplyLimits = ReplyLimits()
    rations: RationLimits = RationLimits()
    hearing_ms: int = 34_000
    idle_hearing_ms: int = 8_000
    gap_ms: int = 86_400_000
    judged_gap_ms: int = 4_000
    unjudged_ms: int = 160_000
    utterance_batch_ms: int = 240
    vad_batch_frames: int = 16
    vad_s: float = 5.0
    turn_model_s: float = 1.0
    tokens_s: float = 10.0
    transcript_s: float = 30.0
    background_slack_ms: int = 2_000
    voice_s: float = 10.0
    store_s: float = 3.0
    saved_s: float = 0.25
    unread_ms: int = 10_000
    unread_events: int = 4_096
    waiting_events: int = 256
    uncommitted_writes: int = 64
    repeatable_turns: int = 64
    max_sessions: int = 200
    max_tenant_sessions: int = 50
    max_session_s: float = 3_600.0
    go_away_s: float = 60.0
    max_idle_s: float = 60.0
    resume_window_s: float = 60.0
    renewal_s: float = 2.0
    closing_s: float = 10.0
