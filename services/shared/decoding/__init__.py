"""Generation with a language model: what to sample, and many requests at once on one model."""

from services.shared.decoding.batcher import ContinuousBatcher
from services.shared.decoding.engine import Engine, FinishReason, RequestId, StepOutput
from services.shared.decoding.generation_config import with_checkpoint_defaults
from services.shared.decoding.loading import LanguageModel, load_language_model
from services.shared.decoding.params import IdRange, SamplingParams
from services.shared.decoding.runner import EngineRunner

__all__ = [
    "ContinuousBatcher",
    "Engine",
    "EngineRunner",
    "FinishReason",
    "IdRange",
    "LanguageModel",
    "RequestId",
    "SamplingParams",
    "StepOutput",
    "load_language_model",
    "with_checkpoint_defaults",
]
