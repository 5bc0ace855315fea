"""The tokenizer's network as a graph for other runtimes. Needs the extra `engine`; no serving process imports it.

modules.py    the network as a function of tensors, as `services.tokenizer.graphs` declares it
export.py     a tokenizer folder -> a checked ONNX file in a cache
profiles.py   how many windows a call has
"""
