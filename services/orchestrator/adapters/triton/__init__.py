"""The rooms behind their ports, on Triton.

    connect.py    all rooms from addresses and a checkpoint      checkpoint.py  what must be known of the checkpoint
    tokenizer.py  utterances, replayed when a server is lost     servers.py     which server an utterance stays on
    chat.py       replies and transcripts                        asking.py      deadlines, second tries, streams
    speech.py     clauses to groups of speech tokens             vocoder.py     speech tokens to samples
    voices.py     clips to voices, and the built-in ones

Prompts are laid out here and ids end here: what passes the ports is words, codec values and samples.
"""

from services.orchestrator.adapters.triton.checkpoint import Checkpoint, read_checkpoint
from services.orchestrator.adapters.triton.connect import ConnectedRooms, RoomAddresses, RoomLimits, connect_rooms

__all__ = ["Checkpoint", "ConnectedRooms", "RoomAddresses", "RoomLimits", "connect_rooms", "read_checkpoint"]
