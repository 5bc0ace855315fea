"""The chat model's network. It is the class that the speech model uses too, so it lives on the ground floor."""

from services.shared.nn.step1 import Step1, Step1Config, load_step1

__all__ = ["Step1", "Step1Config", "load_step1"]
