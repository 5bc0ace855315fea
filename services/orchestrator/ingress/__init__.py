"""The public gRPC API, in the process of the pipeline: what comes over the wire is checked, translated and handed on.

    server.py    the grpc.aio server: TLS, limits, health, reflection, drain     auth.py      who calls, and how much at once
    calls.py     what every call passes through                                  faults.py    errors as google.rpc.Status
    options.py   SessionOptions and back                                         messages.py  outputs and turns as messages
    conversation_service.py, speech_service.py, voice_service.py, session_service.py: the four services

It decides what is well formed, and nothing about a conversation.
"""
