"""The public gRPC API, in the process of the pipeline: what comes over the wire is checked, translated and handed on.

    server.py    the grpc.aio server: TLS, health, drain     auth.py          who calls, and how much at once
    calls.py     what every call passes through              faults.py        errors as google.rpc.Status
    opening.py   the first message of a conversation         options.py       SessionOptions and back (fields.py)
    limits.py    what else clients may send                  messages.py      events (formats.py, records.py)
    audio_in.py  the user's audio                            audio_out.py     a reply's audio
    clips.py     whole recordings                            paging.py        page tokens
    *_service.py the four services; conversation_stream.py and synthesis.py are the long parts of two of them

It decides what is well formed, and nothing about a conversation.
"""
