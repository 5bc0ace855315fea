"""A chat model whose words are given: the network works as always, and the ids it chooses are replaced.

    Triton ─ ChatRoom ─ engine     every pass of the network, one a token, at its own speed
                         └ ids ──> the next ids of the reply that belongs to the request's seed

The nano checkpoint answers in one short sentence. How long a caller waits for a long answer is a question to the other
rooms, so here a seed decides what is said; a seed without a reply gets the model's own words. For benchmarks only.
"""

import json
import shutil
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from services.shared.decoding.engine import StepOutput
from services.shared.decoding.streams import TokenStreams
from services.shared.paths import CHAT_FOLDER
from services.shared.sampling import FinishReason, SamplingParams
from services.shared.text import load_text_tokenizer

REPLIES_FILE: Final = "replies.json"
_ENTRY: Final = f'''"""Entry of step1_chat for Triton, with given words."""

from pathlib import Path

from benchmarks.dictation import dictated_room

TritonPythonModel = dictated_room(Path(__file__).with_name("{REPLIES_FILE}"))
'''


class DictatedStreams:
    """Token streams that say what they are told.

    Args:
        streams: of the engine, which does the work.
        replies: seed -> ids.
    """

    def __init__(self, streams: TokenStreams, replies: Mapping[int, Sequence[int]]) -> None:
        self._streams = streams
        self._replies = replies

    @property
    def open_requests(self) -> int:
        """See `TokenStreams`."""
        return self._streams.open_requests

    async def stream(
        self, prompt_ids: Sequence[int], params: SamplingParams, *, is_gone: Callable[[], bool], slack_ms: int = 0
    ) -> AsyncGenerator[StepOutput, None]:
        """As `TokenStreams.stream`: one pass for each id of the reply, and one for its end."""
        reply = self._replies.get(params.seed or 0)
        if reply is None:
            async for output in self._streams.stream(prompt_ids, params, is_gone=is_gone, slack_ms=slack_ms):
                yield output
            return
        endless = replace(params, stop_ids=(), max_new_tokens=len(reply) + 1)
        said = 0
        async for output in self._streams.stream(prompt_ids, endless, is_gone=is_gone, slack_ms=slack_ms):
            if output.error is not None or output.finish_reason is FinishReason.CANCELLED:
                yield output
                return
            ids = tuple(reply[said : said + len(output.ids)])
            said += len(output.ids)
            yield StepOutput(output.request_id, ids, output.finish_reason and FinishReason.STOP)

    def close(self) -> None:
        """See `TokenStreams`."""
        self._streams.close()


def dictated_room(replies: Path) -> type[Any]:  # a class of Triton's Python process, which exists nowhere else
    """The chat model's Triton class, saying the replies of a file that `dictating_repository` wrote."""
    from services.lm.serving.step1_chat import ChatRoom
    from services.shared.serving.settings import RoomSettings

    texts: dict[str, str] = json.loads(replies.read_text(encoding="utf-8"))

    class DictatedChatRoom(ChatRoom):
        def load(self, settings: RoomSettings) -> None:
            super().load(settings)
            tokenizer = load_text_tokenizer(settings.checkpoints / CHAT_FOLDER)
            ids = {int(seed): tokenizer.encode_text(text) for seed, text in texts.items()}
            self._streams = DictatedStreams(self._streams, ids)

    return DictatedChatRoom


def dictating_repository(repository: Path, target: Path, replies: Mapping[int, str]) -> Path:
    """A model repository beside another one, whose chat model says these replies.

    Args:
        repository: the one to follow.
        target: the new folder.
        replies: seed of a request -> what is said.
    """
    shutil.copytree(repository, target, ignore=shutil.ignore_patterns("checkpoints", "__pycache__"))
    entry = target / "lm" / "step1_chat" / "1"
    (entry / "model.py").write_text(_ENTRY, encoding="utf-8")
    (entry / REPLIES_FILE).write_text(json.dumps(dict(replies)), encoding="utf-8")
    return target
