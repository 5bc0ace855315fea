"""Stage `tokens`: write the text vocabulary, and turn all recordings into codec values with the room's own tokenizer.

Decides: the order. The values belong to one tokenizer: after another training of it they are made again.
"""

import logging
import time
from pathlib import Path
from typing import Final

from services.nano.domain import build_domain
from services.nano.tokenizers.stage import CHECKPOINT_FOLDER
from services.nano.tokens.store import fingerprint_of, make_missing, read_renditions
from services.nano.tokens.vocabulary import write_vocabulary
from services.nano.training.loop import Budget
from services.nano.training.recorded import read_clips
from services.shared.paths import CHAT_FOLDER, TOKENIZER_FOLDER, TTS_FOLDER
from services.tokenizer import load_speech_tokenizer

BASE: Final = Path(__file__).resolve().parents[3] / "model_repository" / "checkpoints" / "nano" / CHAT_FOLDER
"""Whose control pieces, bytes and settings the vocabulary takes over; they are the public file's."""
_LOG_EVERY: Final = 1000
_PAUSE_POLL_S: Final = 2.0

_log = logging.getLogger(__name__)


def run(work: Path, budget: Budget, *, steps: int | None = None) -> bool:
    """Make what is missing.

    Args:
        work: the working folder; the stage `tokenizers` has finished there.
        budget: minutes and pause file.
        steps: renditions to make at most.

    Returns:
        whether nothing is missing.
    """
    checkpoint = work / CHECKPOINT_FOLDER
    write_vocabulary(build_domain(), BASE, [checkpoint / CHAT_FOLDER, checkpoint / TTS_FOLDER])
    folder = checkpoint / TOKENIZER_FOLDER
    tokenizer = load_speech_tokenizer(folder)
    started = time.monotonic()
    for made in make_missing(work, read_clips(work), tokenizer, fingerprint_of(folder)):
        if made % _LOG_EVERY == 0:
            _log.info("tokens: %d renditions made", made)
        spent = budget.minutes is not None and time.monotonic() - started > 60 * budget.minutes
        if spent or made == steps:
            return False
        while budget.pause_file is not None and budget.pause_file.exists():
            time.sleep(_PAUSE_POLL_S)
    renditions = [rendition for own in read_renditions(work).values() for rendition in own]
    _log.info("tokens: %d renditions, %.1f h", len(renditions), sum(r.seconds for r in renditions) / 3600)
    return True
