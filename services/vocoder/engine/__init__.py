"""The vocoder's networks as graphs for other runtimes. Needs the extra `engine`; no serving process imports it.

modules.py    the networks as functions of tensors, as `services.vocoder.graphs` declares them
export.py     a vocoder folder -> checked ONNX files in a cache
profiles.py   which lengths occur, from the streaming schedule
"""
