"""The conversation as a pure core: `step(state, event) -> (state, effects)`. It does no IO and reads no clock.

    options.py    what a caller may choose                events.py    what can happen to a conversation
    effects.py    what the core asks for                  outputs.py   what the client is told
    record.py     turns as they are kept

Positions of the user's audio are samples at 16 kHz from the session's first one, of a reply's samples at the vocoder's
rate from that reply's first; only the ingress knows the client's own formats. Times are monotonic seconds.
"""
