"""Linguistic tokens: the encoder half of Paraformer-large online, run by chunks of 240 ms, and its k-means codes."""
