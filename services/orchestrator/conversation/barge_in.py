"""Speech into a reply: whether it interrupts, and whether it should have.

    reply        ▓▓▓▓▓▓▓▓▓▓▓▓▓▓┊ stopped                         ┊▓▓▓▓▓▓▓▓▓ goes on where it was heard to
    the user     ──────────▒▒▒▒┊▒▒──────────────                 ┊
                     min_speech_ms   pause: words are asked for  ┊ false_interruption_ms later: none were said
    trial                      ├──── words? then the reply is over ──┤

Speech of `min_speech_ms` interrupts at once. Shorter speech does not: it is a turn, answered when the reply was heard.
Where listeners' sounds are let pass, such short speech is on hold until its words are known: a back-channel, or no word
at all, is forgotten and no turn; other words ("stop") interrupt, however short. Speech that interrupted and turns out
to be a back-channel or no word is forgotten as well, and the reply goes on.

During a trial no turn is answered. It is over when words came; when the user still speaks at its end, or the turn has
ended and nothing is known of its words; or when the reply goes on. Speech that ended within `AT_ONCE_MS` of
interrupting, with nothing known of its words, was none.
"""

from dataclasses import replace
from typing import Final

from services.orchestrator.conversation.effects import DropUtterance, Effect
from services.orchestrator.conversation.endpointing import drop_speech
from services.orchestrator.conversation.events import Transcribed
from services.orchestrator.conversation.interruption import end_trial, interrupt, take_up
from services.orchestrator.conversation.outputs import InterruptionReason
from services.orchestrator.conversation.speculation import TAIL_MS, discard
from services.orchestrator.conversation.state import Phase, State, Trial, find_turn
from services.orchestrator.conversation.tables import UserState
from services.orchestrator.conversation.voice_activity import SAMPLES_PER_MS
from services.orchestrator.conversation.words import has_words, is_back_channel

AT_ONCE_MS: Final = 64


def hear_barge_in(state: State, at_s: float, out: list[Effect]) -> State:
    """The user speaks; see whether it was enough to interrupt the reply."""
    if state.user.state is not UserState.SPEAKING:
        return state
    live, knobs = state.live, state.options.turn_taking.barge_in
    if live is None or not knobs.enabled:
        return state
    first = max(state.user.clues.onset, live.begun_sample)
    if state.ears.speech_end - first < knobs.min_speech_ms * SAMPLES_PER_MS:
        return state
    return interrupt(state, at_s, InterruptionReason.SPEECH, out)


def hear_words(state: State, event: Transcribed, out: list[Effect]) -> State:
    """Words of speech that interrupted a reply, or that is on hold, are known; so is that there were none."""
    knobs = state.options.turn_taking.barge_in
    says_something = has_words(event.text) and not (knobs.ignore_back_channels and is_back_channel(event.text))
    trial = state.trial
    if trial is not None:
        if trial.utterance != event.utterance:
            return state
        heard_to = max(trial.wordless_sample, _covered_sample(state, event))
        trial = replace(trial, has_words=says_something, wordless_sample=heard_to)
        return review_trial(state._replace(trial=trial), event.at_s, out)
    if not _is_on_hold(state, event):
        return state
    if says_something:
        return end_trial(interrupt(state, event.at_s, InterruptionReason.SPEECH, out), event.at_s, out)
    return _forget(state, event.utterance, out)


def review_trial(state: State, at_s: float, out: list[Effect]) -> State:
    """End the trial, if enough is known or its time is over."""
    trial = state.trial
    if trial is None:
        return state
    if trial.has_words:
        return end_trial(state, at_s, out)
    turn = find_turn(state, trial.turn)
    if turn is None or turn.phase is not Phase.SUSPENDED:
        return state._replace(trial=None)
    if at_s < trial.until_s:
        return state
    if _said_nothing(state, trial):
        state = _forget(discard(state, out), trial.utterance, out)
        return take_up(state._replace(trial=None), turn, out)
    is_paused = state.user.utterance == trial.utterance and state.user.state is UserState.PAUSED
    return state if is_paused else end_trial(state, at_s, out)


def _said_nothing(state: State, trial: Trial) -> bool:
    """Whether the speech that interrupted is over and had no word."""
    user, ears = state.user, state.ears
    if user.utterance == trial.utterance and user.state is not UserState.SILENCE:
        if user.state is UserState.SPEAKING:
            return False
        shortest = state.options.turn_taking.barge_in.min_speech_ms + AT_ONCE_MS
        is_short = ears.speech_end - user.clues.onset < shortest * SAMPLES_PER_MS
        return trial.wordless_sample >= ears.speech_end or is_short
    waiting = [asked.utterance for asked in state.waiting if asked.utterance is not None]
    ended = next((utterance for utterance in waiting if utterance.number == trial.utterance), None)
    return ended is None or trial.wordless_sample + TAIL_MS * SAMPLES_PER_MS >= ended.end_sample


def _is_on_hold(state: State, event: Transcribed) -> bool:
    """Whether words decide if this speech, too short to interrupt by itself, interrupts the reply."""
    knobs = state.options.turn_taking.barge_in
    if state.live is None or not (knobs.enabled and knobs.ignore_back_channels):
        return False
    if any(asked.utterance is not None and asked.utterance.number == event.utterance for asked in state.waiting):
        return True
    is_open = state.user.state is UserState.PAUSED and state.user.utterance == event.utterance
    return is_open and _covered_sample(state, event) >= state.ears.speech_end


def _covered_sample(state: State, event: Transcribed) -> int:
    return state.ears.end_sample if event.is_final else event.end_sample


def _forget(state: State, utterance: int, out: list[Effect]) -> State:
    """Speech that is no turn."""
    if state.user.utterance == utterance:
        state = drop_speech(state, out)
    kept = tuple(asked for asked in state.waiting if asked.utterance is None or asked.utterance.number != utterance)
    if len(kept) < len(state.waiting) and utterance in state.utterances:
        out.append(DropUtterance(utterance))
        left = tuple(number for number in state.utterances if number != utterance)
        state = state._replace(utterances=left)
    return state._replace(waiting=kept)
