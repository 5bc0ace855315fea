"""The orchestrator: the room that owns conversations and knocks at the doors of the other four.

    ingress/ ──messages──> pipeline/ ──events──> conversation/ (pure)      conversation/  what happens next, as step()
        ^                   |   ^                     |                     ports/         what is asked of the outside
        └──── events ───────┘   └───── effects ───────┘                     pipeline/      audio in flight, asyncio
                            |                                               adapters/      Triton, Redis, Silero
                            └── ports/ <── adapters/                        ingress/       the public gRPC API

app.py puts a replica together under Ray Serve; config.py is read there and nowhere else.
"""
