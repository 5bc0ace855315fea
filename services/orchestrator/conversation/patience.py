"""How long a silence is that ends the user's turn. It reads clues and moves nothing.

    speech ┊ pause_ms ┊ one_word ┊ complete_silence_ms, or what the caller's pauses teach ┊ … max_silence_ms ┊ spelling
           └ the model is asked, and the words                 sounds finished                   does not      goes on

In this order: a known word alone is answered soon; letters and digits that are spelled are waited for; else a turn that
the model finds unfinished, or has not judged yet, has until `max_silence_ms`, and any other `complete_silence_ms`. With
`adapt_to_caller` the latter follows the caller: a little longer than nine tenths of the pauses made within turns so
far, so that who pauses long is not cut off and who never pauses is answered soon. A pause that ended a turn too early,
seen by speech that goes on before any answer was heard, counts as one within the turn: that is how the value rises.
"""

from dataclasses import replace
from typing import Final

from services.orchestrator.conversation.options import EndpointingMode, EndpointingOptions
from services.orchestrator.conversation.state import State
from services.orchestrator.conversation.tables import AgentState
from services.orchestrator.conversation.words import is_one_answer, is_spelling

_REMEMBERED_PAUSES: Final = 20
_ENOUGH_PAUSES: Final = 4
_MARGIN: Final = 1.25
"""Over the pauses that were seen: pauses beyond what the turn was given are never seen whole."""


def knobs(state: State) -> EndpointingOptions:
    """The endpointing options of the agent's state."""
    taking = state.options.turn_taking
    match state.agent:
        case AgentState.REPLYING:
            return taking.while_replying
        case AgentState.TOOL_RUNNING:
            return taking.while_tool_running
        case _:
            return taking.while_idle


def ending_silence_ms(state: State) -> int:
    """Silence that ends the turn of the open utterance, as far as is known now."""
    options = knobs(state)
    clues, speech_end = state.user.clues, state.ears.speech_end
    words = clues.words if clues.words_sample >= speech_end else ""
    if options.one_word_silence_ms and is_one_answer(words):
        return options.one_word_silence_ms
    silence_ms = _complete_silence_ms(state, options)
    if state.options.turn_taking.mode is EndpointingMode.TURN_MODEL:
        is_judged = clues.judged_sample >= speech_end
        if not is_judged or clues.probability < options.complete_threshold:
            silence_ms = options.max_silence_ms
    if options.spelling_silence_ms and is_spelling(words):
        silence_ms = max(silence_ms, options.spelling_silence_ms)
    return silence_ms


def wants_words(state: State) -> bool:
    """Whether the words of open speech are of use: to the client, or to how long its turn waits."""
    options = knobs(state)
    return state.options.partial_transcripts or options.one_word_silence_ms > 0 or options.spelling_silence_ms > 0


def learn_pause(state: State, pause_ms: int) -> State:
    """The caller has gone on after a pause."""
    if pause_ms < knobs(state).pause_ms:
        return state
    return replace(state, pauses_ms=(*state.pauses_ms, pause_ms)[-_REMEMBERED_PAUSES:])


def is_cut_off(state: State, gap_ms: int) -> bool:
    """Whether speech that begins so long after a turn's end shows that the turn had not ended."""
    is_unheard = state.live is not None and state.live.playout.sent_samples == 0
    return is_unheard and gap_ms <= knobs(state).max_silence_ms


def _complete_silence_ms(state: State, options: EndpointingOptions) -> int:
    pauses = sorted(state.pauses_ms)
    if not options.adapt_to_caller or len(pauses) < _ENOUGH_PAUSES:
        return options.complete_silence_ms
    usual_ms = pauses[len(pauses) * 9 // 10] if len(pauses) >= 10 else pauses[-1]
    shortest_ms = max(options.pause_ms, options.complete_silence_ms // 2)
    return min(max(int(usual_ms * _MARGIN), shortest_ms), options.max_silence_ms)
