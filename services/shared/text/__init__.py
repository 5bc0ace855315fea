"""Text to token ids and back, with the rules of the checkpoint's own sentencepiece file."""

from services.shared.text.stream import StreamDecoder
from services.shared.text.tokenizer import TextTokenizer, load_text_tokenizer

__all__ = [
    "StreamDecoder",
    "TextTokenizer",
    "load_text_tokenizer",
]
