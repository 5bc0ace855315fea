"""docs/turn-taking.md from the tables: `python -m services.orchestrator.conversation.document docs/turn-taking.md`."""

import sys
from pathlib import Path
from typing import Final

from services.orchestrator.conversation.tables import as_diagrams, as_markdown

_HEAD: Final = """\
# Turn taking

Made from [`conversation/tables.py`](../services/orchestrator/conversation/tables.py) by
`python -m services.orchestrator.conversation.document docs/turn-taking.md`; a test holds the page to it.

Two machines, coupled: what the user does, and what the agent does. The core moves them by these rows and no others; a
move that has no row in the present state has no effect. The knobs are those of
[`turn_taking.proto`](../protos/stepaudio/v1/turn_taking.proto), and all of them may change in a live session.

"""
_TEXT: Final = """
## When the user's turn ends

| clue | the silence that ends the turn |
|---|---|
| mode SILENCE | `complete_silence_ms` |
| mode TURN_MODEL, the model finds the sentence finished (`complete_threshold`) | `complete_silence_ms` |
| mode TURN_MODEL, it does not, or has not answered yet | `max_silence_ms` |
| `adapt_to_caller`, four pauses of this caller are known | a quarter more than nine tenths of them, instead of \
`complete_silence_ms`; at least half of that, at most `max_silence_ms` |
| one known word was said ("yes"), `one_word_silence_ms` | that |
| letters or digits are being spelled, `spelling_silence_ms` | that, if it is longer |
| `EndOfTurn`, in every mode; in mode MANUAL nothing else | none |
| `max_utterance_ms` | none: the turn ends in mid-speech |

A clue counts from the moment it comes, and until the user speaks on. The knobs are those of the agent's state:
`while_replying` in Replying, `while_tool_running` in ToolRunning, `while_idle` else.

## What speculation may do

A reply is prepared at most once for each pause and `max_per_turn` times for a turn, while the agent is Idle, no other
turn waits and the tenant's budget allows it. Nothing of it is told. The end of the turn commits it, unless the user has
spoken on, another turn comes first, it has read another part of the last reply than was heard, or options have changed.

## What interrupts

| the user, during a reply | is |
|---|---|
| speaks for `barge_in.min_speech_ms` | an interruption, at once |
| speaks shorter | a turn that is answered when the reply was heard |
| the same, with `ignore_back_channels` | forgotten if it was a listener's sound or no word, else an interruption |
| interrupted, and no word was said within `false_interruption_ms` | forgotten; the same turn goes on where it was |
| interrupted, and it was a listener's sound, with `ignore_back_channels` | the same |

A stopped reply goes on under a new epoch, from the first sample that was not heard.
"""


def render() -> str:
    """The page."""
    return _HEAD + as_markdown() + "\n" + as_diagrams() + _TEXT


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
