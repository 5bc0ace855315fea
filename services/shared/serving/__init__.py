"""What every room's Triton class stands on: settings, checked tensors, typed errors, epochs, metrics, warm-up.

    settings.py  what a room reads from its environment and its config.pbtxt
    epochs.py    which work is out of date
    ingress.py   Triton requests -> checked arrays, arrays and errors -> Triton responses
    metrics.py   the room's own metrics
    room.py      the life of a model: load, warm up, serve, unload
    engines.py   torch or vLLM behind the class of both language models
    generation.py that class

`settings`, `epochs` and `engines` run anywhere; the others run only inside Triton's Python process, whose
`triton_python_backend_utils` exists nowhere else.
"""
