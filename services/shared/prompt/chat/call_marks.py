"""The pieces of the vocabulary between which the model writes a call of a function.

Source: ids 5 and 6 of the public text vocabulary; the release says nothing of what stands between them.
"""

from typing import Final

CALL_START: Final = "<|CALL_START|>"
CALL_END: Final = "<|CALL_END|>"
