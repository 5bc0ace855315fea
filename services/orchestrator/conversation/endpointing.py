"""The user's turn: when it begins, pauses and ends. It moves the machine of the user, and asks the agent to answer.

    audio        ───────────▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒────▒▒▒▒▒▒▒────────────────
    utterance          ├────┴──────────────────────────┴──┤
                   pre-roll                             tail
    outputs                   speech_started     ┊speech_stopped   reply_started
                              after min_speech_ms  after pause_ms  after complete_silence_ms

The turn ends by silence, by the client's `EndOfTurn`, by the end of input, or at `max_utterance_ms`. An utterance that
ends in a pause has `TAIL_MS` of the silence and no more: enough for word endings that are softer than the threshold,
and little enough that the chat model reads speech and not the silence that the end of the turn took to show. In manual
mode the utterance is all the audio since the turn before, for the client has chosen its bounds; of silence before the
first speech it has at most `MANUAL_LOOKBACK_MS`, because the audio before is released.

What is said while a reply is being heard is answered when that was heard.
"""

from dataclasses import replace
from typing import Final

from services.orchestrator.conversation.effects import DropUtterance, Effect, EndUtterance, OpenUtterance
from services.orchestrator.conversation.events import EndOfTurn, InputEnded, VoiceFrame
from services.orchestrator.conversation.options import EndpointingMode, EndpointingOptions
from services.orchestrator.conversation.outputs import InputReleased, Refused, SpeechStarted, SpeechStopped
from services.orchestrator.conversation.record import Origin
from services.orchestrator.conversation.state import MAX_WAITING, Asked, State, StreamState, User, Utterance, tell
from services.orchestrator.conversation.tables import AgentState, UserMove, UserState, user_after
from services.orchestrator.conversation.voice_activity import SAMPLES_PER_MS, Ears, hear
from services.shared.errors import InputEndedError, TooManyWaitingTurnsError

TAIL_MS: Final = 160

_RELEASE_SAMPLES: Final = 4500 * SAMPLES_PER_MS
"""Of silence, after which audio is released; with one frame more it stays below the 5 s that are promised."""


def on_voice_frame(state: State, frame: VoiceFrame, out: list[Effect]) -> State:
    """The next 32 ms of the user's audio."""
    if state.input_ended:
        tell(state, out, Refused(InputEndedError("audio came after the end of input")))
        return state
    if frame.end_sample <= state.ears.end_sample:
        return state
    user = state.user
    speaking = user.state is UserState.SPEAKING
    ears = hear(state.ears, frame, state.options.turn_taking.voice_activity, speaking=speaking)
    if not speaking and ears.speech_end == frame.end_sample > user.free_from:
        state = _begin_speech(replace(state, ears=ears), out)
        return _go_on(replace(state, user=_settled(state, ears)), out)
    if user.state is not UserState.SILENCE:
        return _go_on(replace(state, ears=ears, user=_settled(state, ears)), out)
    state = replace(state, ears=ears)
    is_due = frame.end_sample - state.released_at_sample >= _RELEASE_SAMPLES
    return release_audio(state, out) if is_due else state


def on_end_of_turn(state: State, event: EndOfTurn | InputEnded, out: list[Effect]) -> State:
    """The client ends the user's turn; without speech it does nothing."""
    if user_after(state.user.state, UserMove.TURN_END) is None:
        return state
    paused = state.user.state is UserState.PAUSED and not _is_manual(state)
    return _end_turn(state, _tail_end(state.ears) if paused else event.end_sample, out)


def on_input_ended(state: State, event: InputEnded, out: list[Effect]) -> State:
    """The user will say nothing more: unfinished speech is a turn."""
    return replace(on_end_of_turn(state, event, out), input_ended=True)


def drop_speech(state: State, out: list[Effect]) -> State:
    """Forget the speech that has not ended."""
    after = user_after(state.user.state, UserMove.DROP)
    if after is None:
        return state
    _tell_stopped(state, state.ears.speech_end, out)
    out.append(DropUtterance(state.user.utterance))
    user = User(after, state.user.utterance, free_from=state.ears.end_sample)
    return replace(state, user=user, ears=replace(state.ears, run_first=None))


def release_audio(state: State, out: list[Effect]) -> State:
    """Tell the client which audio is dealt with, if it still keeps some for a resume."""
    needed = state.needed_sample
    if needed <= state.released_sample or state.stream is StreamState.CLOSED:
        return state
    tell(state, out, InputReleased(needed))
    return replace(state, released_sample=needed, released_at_sample=state.ears.end_sample)


def _begin_speech(state: State, out: list[Effect]) -> State:
    """Speech is heard: the utterance opens, or goes on after a pause."""
    user, ears = state.user, state.ears
    onset = max(ears.end_sample if ears.run_first is None else ears.run_first, user.free_from)
    if user.state is UserState.SILENCE:
        user = User(
            utterance=user.utterance + 1,
            first_sample=state.opening_sample,
            started_s=ears.moment_s(onset),
            free_from=user.free_from,
        )
        out.append(OpenUtterance(user.utterance, user.first_sample))
    after = user_after(user.state, UserMove.SPEECH) or user.state
    tell(state, out, SpeechStarted(onset), state.speech_turn)
    return replace(state, user=replace(user, state=after))


def _go_on(state: State, out: list[Effect]) -> State:
    """An utterance is open: see whether the user pauses, or the turn has ended."""
    user, ears = state.user, state.ears
    knobs = _knobs(state)
    if ears.end_sample - user.first_sample >= _longest(state):
        return _end_turn(state, user.first_sample + _longest(state), out)
    if user.state is UserState.SPEAKING and ears.silent_samples >= knobs.pause_ms * SAMPLES_PER_MS:
        _tell_stopped(state, ears.speech_end, out)
        user = replace(user, state=user_after(user.state, UserMove.PAUSE) or user.state)
        state = replace(state, user=user)
    ends = ears.silent_samples >= knobs.complete_silence_ms * SAMPLES_PER_MS and ears.run_first is None
    if ends and user.state is UserState.PAUSED and not _is_manual(state):
        return _end_turn(state, _tail_end(state.ears), out)
    return state


def _settled(state: State, ears: Ears) -> User:
    """The user, and which audio of the open utterance belongs to it whatever comes."""
    user = state.user
    sure = ears.end_sample if _is_manual(state) else _tail_end(ears)
    sure = max(user.settled_sample, min(sure, user.first_sample + _longest(state)))
    return User(user.state, user.utterance, user.first_sample, sure, user.started_s, user.free_from)


def _end_turn(state: State, end_sample: int, out: list[Effect]) -> State:
    """The utterance ends before a sample, and the agent is to answer it."""
    user, ears = state.user, state.ears
    end = max(user.settled_sample, min(end_sample, user.first_sample + _longest(state)))
    speech_end = min(ears.speech_end, end)
    _tell_stopped(state, speech_end, out)
    after = user_after(user.state, UserMove.TURN_END) or user.state
    utterance = Utterance(user.utterance, user.first_sample, end)
    state = replace(state, user=User(after, user.utterance, free_from=end), ears=replace(ears, run_first=None))
    if sum(asked.utterance is not None for asked in state.waiting) >= MAX_WAITING:
        out.append(DropUtterance(utterance.number))
        tell(state, out, Refused(TooManyWaitingTurnsError(f"{MAX_WAITING} spoken turns wait already: speak later")))
        return state
    out.append(EndUtterance(utterance.number, end))
    asked = Asked(Origin.SPEECH, user.started_s, ears.moment_s(speech_end), utterance=utterance)
    kept = (*state.utterances, utterance.number)
    return replace(state, waiting=(*state.waiting, asked), utterances=kept)


def _tell_stopped(state: State, end_sample: int, out: list[Effect]) -> None:
    if state.user.state is UserState.SPEAKING:
        tell(state, out, SpeechStopped(end_sample), state.speech_turn)


def _tail_end(ears: Ears) -> int:
    return min(ears.speech_end + TAIL_MS * SAMPLES_PER_MS, ears.end_sample)


def _longest(state: State) -> int:
    return state.options.turn_taking.max_utterance_ms * SAMPLES_PER_MS


def _is_manual(state: State) -> bool:
    return state.options.turn_taking.mode is EndpointingMode.MANUAL


def _knobs(state: State) -> EndpointingOptions:
    taking = state.options.turn_taking
    return taking.while_replying if state.agent is AgentState.REPLYING else taking.while_idle
