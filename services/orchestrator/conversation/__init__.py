"""The conversation as a pure core: `step(state, event) -> (state, effects)`. It does no IO and reads no clock.

    options.py    what a caller may choose                events.py    what can happen to a conversation
    effects.py    what the core asks for                  outputs.py   what the client is told
    record.py     turns as they are kept

    core.py       begin and step                          tables.py        the machines of user and agent, as data
    state.py      what is known                           interruption.py  what stops a reply
    replies.py    a turn until it is kept                 endpointing.py   the user's turn
    playout.py    what was sent and heard                 voice_activity.py  where speech is
    history.py    what the chat model reads             governor.py      what is given up

Positions of the user's audio are samples at 16 kHz from the session's first one, of a reply's samples at the vocoder's
rate from that reply's first; only the ingress knows the client's own formats. Times are monotonic seconds.
"""

from services.orchestrator.conversation.core import Past, begin, step
from services.orchestrator.conversation.state import State, StreamState, playout_lead_s, playout_slack_s

__all__ = ["Past", "State", "StreamState", "begin", "playout_lead_s", "playout_slack_s", "step"]
