"""Audio without a network: files, plain samples, resampling. Numpy and libsndfile only, no torch.

Samples are float32 in [-1, 1]; what a sample means (speech, silence, music) is for the rooms to decide.
"""
