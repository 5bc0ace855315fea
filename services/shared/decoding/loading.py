"""A language model ready to generate: tokenizer, batcher and sizes of one checkpoint folder, checked to fit."""

from dataclasses import dataclass
from pathlib import Path

import torch

from services.shared.decoding.batcher import ContinuousBatcher
from services.shared.errors import CorruptFileError
from services.shared.nn.step1 import Step1Config, load_step1
from services.shared.text import TextTokenizer, load_text_tokenizer


@dataclass(frozen=True, slots=True, eq=False)
class LanguageModel:
    """The parts of one checkpoint: text to ids, ids to ids, and the sizes of the model."""

    tokenizer: TextTokenizer
    batcher: ContinuousBatcher
    config: Step1Config


def load_language_model(
    folder: str | Path, *, device: str | torch.device, dtype: torch.dtype, max_batch: int
) -> LanguageModel:
    """Load the folder of a Step1 checkpoint (Step-Audio-Chat or Step-Audio-TTS-3B).

    Args:
        folder: config.json, *.safetensors, tokenizer.model, tokenizer_config.json.
        device: where the network runs.
        dtype: in what precision.
        max_batch: requests that run at the same time.

    Raises:
        CheckpointError: a file is missing, damaged, or does not fit the others; the message names it.
    """
    tokenizer = load_text_tokenizer(folder)
    model = load_step1(folder, device=device, dtype=dtype)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise CorruptFileError(
            f"{folder}: tokenizer.model has {tokenizer.vocab_size} pieces, config.json a vocabulary of "
            f"{model.config.vocab_size}; use the files of one checkpoint"
        )
    return LanguageModel(tokenizer, ContinuousBatcher(model, max_batch=max_batch), model.config)
