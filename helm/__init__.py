"""The chart (stepaudio/) and the two programs that its makers use: values_reference.py and tools.py."""
