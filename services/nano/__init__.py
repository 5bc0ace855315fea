"""The recipe of the nano checkpoint, as a pipeline of resumable stages: `python -m services.nano <stage>`.

A stage reads what earlier stages left in one working folder and writes its own part there; it can be stopped at any
time and continues where it was. Nothing here is imported by a room or by a running server.
"""
