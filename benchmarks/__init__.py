"""Commands that produce every figure the documents state; `python -m benchmarks` runs them all."""
