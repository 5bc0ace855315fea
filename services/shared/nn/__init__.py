"""Torch code that more than one room runs: checkpoint reading, features, the Step1 language model."""
