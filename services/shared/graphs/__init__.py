"""Networks of a room as exported ONNX graphs: what they take, how they are made, kept, opened and run.

    spec.py       a graph's tensors; ranges of its free axes
    export.py     torch module -> checked ONNX file           (needs onnx and onnxscript; engine builds only)
    cache.py      a folder of exported graphs for one checkpoint and one state of the code
    providers.py  on what ONNX Runtime computes, as data
    session.py    an open graph, run on torch tensors
    command.py    the command of a room's export
    opening.py    a graph of a folder as a composition root wants it

Which graphs there are, each room says itself. Nothing here knows a network.
"""
