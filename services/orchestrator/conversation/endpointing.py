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

At a pause the turn model is asked, and the words of the speech so far where they are of use; what they tell decides how
long the silence may last (patience.py), whenever it comes. What is said while a reply is being heard is answered when
that was heard, unless it interrupts (barge_in.py).
"""

from dataclasses import replace
from typing import Final

from services.orchestrator.conversation.effects import (
    AskTurnModel,
    DropUtterance,
    Effect,
    EndUtterance,
    OpenUtterance,
    Transcribe,
)
from services.orchestrator.conversation.events import EndOfTurn, InputEnded, Transcribed, TurnJudged, VoiceFrame
from services.orchestrator.conversation.options import EndpointingMode
from services.orchestrator.conversation.outputs import (
    InputReleased,
    Refused,
    SpeechStarted,
    SpeechStopped,
    Transcript,
)
from services.orchestrator.conversation.patience import (
    ending_silence_ms,
    is_cut_off,
    knobs,
    learn_fluency,
    learn_pause,
    wants_words,
)
from services.orchestrator.conversation.record import Origin, Utterance
from services.orchestrator.conversation.speculation import TAIL_MS, discard, tail_end
from services.orchestrator.conversation.state import MAX_WAITING, Asked, State, StreamState, User, tell
from services.orchestrator.conversation.tables import UserMove, UserState, user_after
from services.orchestrator.conversation.voice_activity import SAMPLES_PER_MS, Ears, hear
from services.shared.errors import InputEndedError, TooManyWaitingTurnsError

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
        silent_from = state.ears.speech_end
        state = _begin_speech(state._replace(ears=ears), silent_from, out)
        return _go_on(state._replace(user=_settled(state, ears)), out)
    if user.state is not UserState.SILENCE:
        return _go_on(state._replace(ears=ears, user=_settled(state, ears)), out)
    state = state._replace(ears=ears)
    is_due = frame.end_sample - state.released_at_sample >= _RELEASE_SAMPLES
    return release_audio(state, out) if is_due else state


def on_end_of_turn(state: State, event: EndOfTurn | InputEnded, out: list[Effect]) -> State:
    """The client ends the user's turn; without speech it does nothing."""
    if user_after(state.user.state, UserMove.TURN_END) is None:
        return state
    paused = state.user.state is UserState.PAUSED and not _is_manual(state)
    return _end_turn(state, tail_end(state) if paused else event.end_sample, out)


def on_input_ended(state: State, event: InputEnded, out: list[Effect]) -> State:
    """The user will say nothing more: unfinished speech is a turn."""
    return on_end_of_turn(state, event, out)._replace(input_ended=True)


def drop_speech(state: State, out: list[Effect]) -> State:
    """Forget the speech that has not ended."""
    after = user_after(state.user.state, UserMove.DROP)
    if after is None:
        return state
    _tell_stopped(state, state.ears.speech_end, out)
    out.append(DropUtterance(state.user.utterance))
    user = User(after, state.user.utterance, free_from=state.ears.end_sample)
    state = state._replace(user=user, ears=state.ears._replace(run_first=None))
    return discard(state, out)


def on_judged(state: State, event: TurnJudged, out: list[Effect]) -> State:
    """The turn model has judged the open utterance."""
    if state.user.state is UserState.SILENCE or event.utterance != state.user.utterance:
        return state
    clues = replace(state.user.clues, probability=event.probability, judged_sample=event.end_sample)
    return _go_on(state._replace(user=state.user._replace(clues=clues)), out)


def on_partial_words(state: State, event: Transcribed, out: list[Effect]) -> State:
    """Words of the open utterance are known, as far as it was heard when they were asked for."""
    user = state.user
    if user.state is UserState.SILENCE or event.utterance != user.utterance:
        return state
    if event.end_sample < user.clues.words_sample:
        return state
    if state.options.partial_transcripts and event.text:
        said = Transcript(event.text, False, user.first_sample, event.end_sample)
        tell(state, out, said, state.speech_turn)
    clues = replace(user.clues, words=event.text, words_sample=event.end_sample)
    return _go_on(state._replace(user=user._replace(clues=clues)), out)


def release_audio(state: State, out: list[Effect]) -> State:
    """Tell the client which audio is dealt with, if it still keeps some for a resume."""
    needed = state.needed_sample
    if needed <= state.released_sample or state.stream is StreamState.CLOSED:
        return state
    tell(state, out, InputReleased(needed))
    return state._replace(released_sample=needed, released_at_sample=state.ears.end_sample)


def _begin_speech(state: State, silent_from: int, out: list[Effect]) -> State:
    """Speech is heard: the utterance opens, or goes on after a pause."""
    user, ears = state.user, state.ears
    onset = max(ears.end_sample if ears.run_first is None else ears.run_first, user.free_from)
    silence_ms = (onset - silent_from) // SAMPLES_PER_MS
    if user.state is UserState.PAUSED or (silent_from and is_cut_off(state, onset, silence_ms)):
        state = learn_pause(state, silence_ms)
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
    state = discard(state, out)
    has_paused = user.has_paused or user.state is UserState.PAUSED
    clues = replace(user.clues, onset=onset)
    return state._replace(user=user._replace(state=after, clues=clues, has_paused=has_paused))


def _go_on(state: State, out: list[Effect]) -> State:
    """An utterance is open: see whether the user pauses, or the turn has ended."""
    user, ears = state.user, state.ears
    if ears.end_sample - user.first_sample >= _longest(state):
        return _end_turn(state, user.first_sample + _longest(state), out)
    if user.state is UserState.SPEAKING and ears.silent_samples >= knobs(state).pause_ms * SAMPLES_PER_MS:
        _tell_stopped(state, ears.speech_end, out)
        user = user._replace(state=user_after(user.state, UserMove.PAUSE) or user.state)
        state = state._replace(user=user)
        _ask_about_pause(state, out)
    if user.state is not UserState.PAUSED or ears.run_first is not None or _is_manual(state):
        return state
    if ears.silent_samples >= ending_silence_ms(state) * SAMPLES_PER_MS:
        return _end_turn(state, tail_end(state), out)
    return state


def _ask_about_pause(state: State, out: list[Effect]) -> None:
    """Ask what tells whether the user has finished, or has said anything at all."""
    user, taking = state.user, state.options.turn_taking
    if taking.mode is EndpointingMode.TURN_MODEL:
        out.append(AskTurnModel(user.utterance, state.ears.end_sample))
    holds = taking.barge_in.enabled and taking.barge_in.ignore_back_channels and state.live is not None
    is_on_trial = state.trial is not None and state.trial.utterance == user.utterance
    if wants_words(state) or holds or is_on_trial:
        out.append(Transcribe(user.utterance, tail_end(state)))


def _settled(state: State, ears: Ears) -> User:
    """The user, and which audio of the open utterance belongs to it whatever comes."""
    user = state.user
    tail = min(ears.speech_end + TAIL_MS * SAMPLES_PER_MS, ears.end_sample)
    sure = ears.end_sample if _is_manual(state) else tail
    sure = max(user.settled_sample, min(sure, user.first_sample + _longest(state)))
    return User(
        user.state,
        user.utterance,
        user.first_sample,
        sure,
        user.started_s,
        user.free_from,
        user.clues,
        user.has_paused,
    )


def _end_turn(state: State, end_sample: int, out: list[Effect]) -> State:
    """The utterance ends before a sample, and the agent is to answer it."""
    user, ears = state.user, state.ears
    end = max(user.settled_sample, min(end_sample, user.first_sample + _longest(state)))
    speech_end = min(ears.speech_end, end)
    if not user.has_paused:
        state = learn_fluency(state, (speech_end - user.first_sample) // SAMPLES_PER_MS)
    _tell_stopped(state, speech_end, out)
    after = user_after(user.state, UserMove.TURN_END) or user.state
    utterance = Utterance(user.utterance, user.first_sample, end)
    state = state._replace(user=User(after, user.utterance, free_from=end), ears=ears._replace(run_first=None))
    if sum(asked.utterance is not None for asked in state.waiting) >= MAX_WAITING:
        out.append(DropUtterance(utterance.number))
        tell(state, out, Refused(TooManyWaitingTurnsError(f"{MAX_WAITING} spoken turns wait already: speak later")))
        return state
    out.append(EndUtterance(utterance.number, end))
    asked = Asked(Origin.SPEECH, user.started_s, ears.moment_s(speech_end), utterance=utterance)
    kept = (*state.utterances, utterance.number)
    return state._replace(waiting=(*state.waiting, asked), utterances=kept)


def _tell_stopped(state: State, end_sample: int, out: list[Effect]) -> None:
    if state.user.state is UserState.SPEAKING:
        tell(state, out, SpeechStopped(end_sample), state.speech_turn)


def _longest(state: State) -> int:
    return state.options.turn_taking.max_utterance_ms * SAMPLES_PER_MS


def _is_manual(state: State) -> bool:
    return state.options.turn_taking.mode is EndpointingMode.MANUAL
