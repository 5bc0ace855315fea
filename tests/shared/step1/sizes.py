"""Sizes of the public language models, where a test needs no file of theirs."""

from typing import Final

from services.shared.step1_config import Step1Config

TTS_3B: Final = Step1Config(
    hidden_size=3072,
    intermediate_size=8192,
    num_attention_heads=48,
    num_attention_groups=4,
    num_hidden_layers=32,
    vocab_size=74_752,
    max_seq_len=32_768,
    rms_norm_eps=1e-5,
    eos_ids=(3,),
)
