"""Graphs compiled ahead by TensorRT, called plans: made, held against torch, kept, opened and run.

    precision.py  which numbers a graph computes in: the types of a strongly typed network    (engine builds only)
    buckets.py    which shapes a plan is compiled for
    port.py       what is used of TensorRT, as protocols; everything else is tested without it
    official.py   the port by NVIDIA's package; the only module that imports it
    store.py      plans in the cache of graphs, by device, version, graphs and precision; timings; refitting
    gate.py       how far speech by plans may be from speech by torch
    capture.py    CUDA graphs of torch
    session.py    an open plan, run on torch tensors like any graph
    opening.py    the plans of a room as a composition root wants them
    command.py    the command of a room's build

Which graphs a room has, in which precision each may run and what its speech is held to, the room says itself.
"""
