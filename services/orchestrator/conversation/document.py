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
| `adapt_to_caller` (the server's default) | instead of `complete_silence_ms`, 2.5 times this caller's usual pause; at \
least half of it, at most `max_silence_ms` |
| one known word was said ("yes"), `one_word_silence_ms` | that |
| letters or digits are being spelled, `spelling_silence_ms` | that, if it is longer |
| `EndOfTurn`, in every mode; in mode MANUAL nothing else | none |
| `max_utterance_ms` | none: the turn ends in mid-speech |

A clue counts from the moment it comes, and until the user speaks on. The knobs are those of the agent's state:
`while_replying` in Replying, `while_tool_running` in ToolRunning, `while_idle` else.

The usual pause is the geometric mean of the last 20 within this caller's turns. A turn of 1.5 s or more without any
counts as one of `pause_ms`. So does, as long as it was, a pause that ended a turn too early: the caller spoke on before
a quarter of a second of the answer was heard. At the start, `complete_silence_ms` stands for three pauses that it would
follow from. A caller who chooses nothing gets `adapt_to_caller` with 1200 ms in all three states;
[measured](measurements.md#turn-taking).

### The turn model

Mode TURN_MODEL is offered where the operator has given the file of a turn model, smart-turn v3.2 of Daily (8.7 MB,
BSD-2-Clause, 23 languages). It is no part of this project and of no image. It is in the wheel of pipecat-ai 1.14.0, of
which nothing else is needed:

```sh
pip download --no-deps pipecat-ai==1.14.0
unzip -j pipecat_ai-1.14.0-py3-none-any.whl '*/smart-turn-v3.2-cpu.onnx'
```

Put it beside the checkpoints, where every replica can read it, and set `STEPAUDIO_TURN_MODEL` to its path. Its SHA-256
has to be `2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f`; for another file, give its own as
`STEPAUDIO_TURN_MODEL_SHA256`. A judgement takes 80 ms of one processor, in a thread of its own; where none comes within
a second, silence decides.

## What speculation may do

A reply is prepared at most once for each pause and `max_per_turn` times for a turn, while the agent is Idle, no other
turn waits and the tenant's budget allows it. It is begun `pause_ms` into the pause at the earliest; later where it will
be ready all the same when the turn ends, as the longest of the last eight first audios took; and with `adapt_to_caller`
not before the usual pause is over. Nothing of it is told. The end of the turn commits it, unless the user has
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
