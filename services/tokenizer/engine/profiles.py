"""How many windows a call of the linguistic encoder has.

A chunk of 240 ms is one window, and a stream that keeps up has one a call. A replay of an utterance comes at once and
is cut into batches.
"""

from typing import Final

from services.shared.graphs.spec import AxisRange
from services.tokenizer.paraformer.linguistic import BATCH_CHUNKS

RANGES: Final = {"W": AxisRange(1, 1, BATCH_CHUNKS + 1)}
"""A batch of samples may complete the chunk that waited before it."""
