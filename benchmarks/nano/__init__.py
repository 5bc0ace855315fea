"""The nano checkpoint end to end, judged by recognisers from outside: `python -m benchmarks.nano`."""
