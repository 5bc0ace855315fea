"""Generation with a language model: many requests at once on one model."""

from services.shared.decoding.batcher import ContinuousBatcher
from services.shared.decoding.engine import Engine, RequestId, StepOutput
from services.shared.decoding.limits import RequestLimits
from services.shared.decoding.loading import LanguageModel, load_language_model
from services.shared.decoding.runner import EngineRunner
from services.shared.decoding.streams import TokenStreams

__all__ = [
    "ContinuousBatcher",
    "Engine",
    "EngineRunner",
    "LanguageModel",
    "RequestId",
    "RequestLimits",
    "StepOutput",
    "TokenStreams",
    "load_language_model",
]
