"""The released system's order of work, in code of our own: what the benchmarks compare with."""
