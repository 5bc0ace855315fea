"""What a CUDA machine makes of the rooms: `python -m benchmarks.gpu`, also without public weights, and dry on a CPU.

roofline.py   operations and bytes, counted; what a device could do at best
engines.py    torch, torch.compile, ONNX Runtime and TensorRT as the same rooms, side by side
measuring.py  parity, real-time factor, first chunks of many streams, tokens a second, memory, energy
__main__.py   the order of it all, table and JSON
"""
