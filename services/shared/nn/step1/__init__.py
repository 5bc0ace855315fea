"""Step1, the language model of Step-Audio: one class for the 130B chat model and the 3B speech model."""

from services.shared.nn.step1.cache import KeyValueCache
from services.shared.nn.step1.model import Step1
from services.shared.nn.step1.weights import load_step1
from services.shared.step1_config import Step1Config, read_step1_config

__all__ = [
    "KeyValueCache",
    "Step1",
    "Step1Config",
    "load_step1",
    "read_step1_config",
]
