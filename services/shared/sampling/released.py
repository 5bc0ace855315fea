"""How the released system generates text; a checkpoint's own defaults win, and what a caller asks for wins over both.

Source: stepaudio.py of the release.
"""

from typing import Final

from services.shared.sampling.params import SamplingParams

CHAT_PARAMS: Final = SamplingParams(max_new_tokens=2048, temperature=0.7, top_p=0.9, top_k=50)
"""Of replies; the top_k is the default of the library that the release generates with."""

ASR_PARAMS: Final = SamplingParams(max_new_tokens=2048, temperature=0)
"""Of transcripts: the likeliest one, so that asking twice gives the same."""
