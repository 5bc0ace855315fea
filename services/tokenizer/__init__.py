"""Speech in, speech tokens out: the two codebooks of Step-Audio-Tokenizer and their 2:3 stream.

samples 16 kHz ─┬─> paraformer/  linguistic codes, causal by 240 ms     ─┬─> 2:3 interleave ─> codec values 0..5119
                └─> semantic/    semantic codes, whole or segmented     ─┘
"""

from services.tokenizer.paraformer.linguistic import LinguisticEncoder, LinguisticState, load_linguistic_encoder
from services.tokenizer.semantic.encoder import SemanticEncoder, load_semantic_encoder
from services.tokenizer.semantic.streaming import SegmentPlan
from services.tokenizer.speech_tokenizer import SpeechTokenizer, SpeechTokens, TokenizerState, load_speech_tokenizer

__all__ = [
    "LinguisticEncoder",
    "LinguisticState",
    "SegmentPlan",
    "SemanticEncoder",
    "SpeechTokenizer",
    "SpeechTokens",
    "TokenizerState",
    "load_linguistic_encoder",
    "load_semantic_encoder",
    "load_speech_tokenizer",
]
