"""Recordings of conversations: what came in, what was decided, and playing that again in virtual time.

    core ──event, effects, state──> recorder ──lines──> FOLDER/SESSION-1.jsonl
                                                              │
    python -m services.orchestrator.replay  <──events─────────┘   the same lines, or where they differ

The core has no clock and no randomness, so that its inputs are all there is to it: what went wrong once goes wrong
again, as often as is needed, and becomes a test.
"""
