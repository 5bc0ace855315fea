"""How tokens are chosen and when they end: what a caller asks of a language model, free of torch and of any engine."""

from services.shared.sampling.finish import FinishReason
from services.shared.sampling.generation_config import with_checkpoint_defaults
from services.shared.sampling.params import IdRange, SamplingParams
from services.shared.sampling.released import ASR_PARAMS, CHAT_PARAMS

__all__ = ["ASR_PARAMS", "CHAT_PARAMS", "FinishReason", "IdRange", "SamplingParams", "with_checkpoint_defaults"]
