"""How long a silence is that ends the user's turn. It reads clues and moves nothing.

    speech ┊ pause_ms ┊ one_word ┊ complete_silence_ms, or what the caller's pauses teach ┊ … max_silence_ms ┊ spelling
           └ the model is asked, and the words                 sounds finished                   does not      goes on

In this order: a known word alone is answered soon; letters and digits that are spelled are waited for; else a turn that
the model finds unfinished, or has not judged yet, has until `max_silence_ms`, and any other `complete_silence_ms`. With
`adapt_to_caller` the latter follows the caller, so that who pauses long is not cut off and who never pauses is answered
soon. It is `_TIMES` the usual pause (the geometric mean, for pauses are log-normal) of those made within turns lately:

    pauses within turns       as they were
    a turn without a pause    one of pause_ms
    a pause that ended a turn too early, seen by speech that goes on before the answer can have been listened to:
                              as it was; that is how the value rises
    nothing is known yet      `_EXPECTED` pauses of which complete_silence_ms is `_TIMES` the usual one
"""

import math
from typing import Final

from services.orchestrator.conversation.options import EndpointingMode, EndpointingOptions
from services.orchestrator.conversation.state import State
from services.orchestrator.conversation.tables import AgentState
from services.orchestrator.conversation.words import is_one_answer, is_spelling

_REMEMBERED_PAUSES: Final = 20
_EXPECTED: Final = 3
_TIMES: Final = 2.5
"""Where the logarithm of pauses spreads by 0.45, one in fifty is longer than so many times the usual one."""
_TELLING_MS: Final = 1500
"""A turn that is shorter and has no pause tells nothing of its caller's pauses."""
_REACTION_S: Final = 0.25
"""Nobody has listened to an answer and gone on for that reason so soon."""


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


def usual_pause_ms(state: State) -> float:
    """What this caller's pauses are like; 0 where the silence does not follow them."""
    options = knobs(state)
    return _usual_ms(state, options) if options.adapt_to_caller else 0.0


def wants_words(state: State) -> bool:
    """Whether the words of open speech are of use: to the client, or to how long its turn waits."""
    options = knobs(state)
    return state.options.partial_transcripts or options.one_word_silence_ms > 0 or options.spelling_silence_ms > 0


def learn_pause(state: State, pause_ms: int) -> State:
    """The caller has gone on after a pause."""
    if pause_ms < knobs(state).pause_ms:
        return state
    return state._replace(pauses_ms=(*state.pauses_ms, pause_ms)[-_REMEMBERED_PAUSES:])


def learn_fluency(state: State, spoken_ms: int) -> State:
    """The caller's turn of this length has ended without a pause."""
    return state if spoken_ms < _TELLING_MS else learn_pause(state, knobs(state).pause_ms)


def is_cut_off(state: State, onset: int, gap_ms: int) -> bool:
    """Whether speech that begins at this sample, so long after a turn's end, shows that the turn had not ended."""
    live = state.live
    if live is None or gap_ms > knobs(state).max_silence_ms:
        return False
    return live.playout.heard_samples(state.ears.moment_s(onset)) <= _REACTION_S * state.reply_rate_hz


def _complete_silence_ms(state: State, options: EndpointingOptions) -> int:
    if not options.adapt_to_caller:
        return options.complete_silence_ms
    shortest_ms = max(options.pause_ms, options.complete_silence_ms // 2)
    return min(max(round(_TIMES * _usual_ms(state, options)), shortest_ms), options.max_silence_ms)


def _usual_ms(state: State, options: EndpointingOptions) -> float:
    logarithms = [math.log(options.complete_silence_ms / _TIMES)] * _EXPECTED
    logarithms += [math.log(pause_ms) for pause_ms in state.pauses_ms]
    return math.exp(math.fsum(logarithms) / len(logarithms))
