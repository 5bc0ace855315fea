"""A dictated chat model works as ever and says what it is told."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path

import pytest

from benchmarks.dictation import REPLIES_FILE, DictatedStreams, dictating_repository
from services.shared.decoding.engine import RequestId, StepOutput
from services.shared.errors import GenerationError
from services.shared.sampling import FinishReason, SamplingParams
from tests.conftest import ROOT

pytestmark = pytest.mark.unit

REQUEST = RequestId(1)


class CountingStreams:
    """Counts up from 1, one id a pass, until a stop id or the limit; `passes` are all that ran."""

    def __init__(self, *, fails_after: int | None = None) -> None:
        self.open_requests = 0
        self.passes = 0
        self._fails_after = fails_after

    async def stream(
        self, prompt_ids: Sequence[int], params: SamplingParams, *, is_gone: Callable[[], bool], slack_ms: int = 0
    ) -> AsyncGenerator[StepOutput, None]:
        for token in range(1, params.max_new_tokens + 1):
            self.passes += 1
            if token == self._fails_after:
                yield StepOutput(REQUEST, (), FinishReason.ERROR, GenerationError("no logits"))
                return
            if token in params.stop_ids:
                yield StepOutput(REQUEST, (), FinishReason.STOP)
                return
            is_last = token == params.max_new_tokens
            yield StepOutput(REQUEST, (token,), FinishReason.LENGTH if is_last else None)

    def close(self) -> None:
        pass


def said(streams: CountingStreams, *, seed: int) -> tuple[list[int], FinishReason | None]:
    async def listen() -> list[StepOutput]:
        params = SamplingParams(max_new_tokens=50, stop_ids=(3,), seed=seed)
        dictated = DictatedStreams(streams, {8: [70, 71, 72, 73]})
        return [output async for output in dictated.stream([1], params, is_gone=lambda: False)]

    outputs = asyncio.run(listen())
    return [token for output in outputs for token in output.ids], outputs[-1].finish_reason


def test_a_seed_with_a_reply_says_it_with_one_pass_for_each_id_and_one_for_the_end() -> None:
    streams = CountingStreams()
    assert said(streams, seed=8) == ([70, 71, 72, 73], FinishReason.STOP)
    assert streams.passes == 5


def test_another_seed_gets_the_models_own_words() -> None:
    assert said(CountingStreams(), seed=9) == ([1, 2], FinishReason.STOP)


def test_a_request_that_fails_ends_as_it_does_without_dictation() -> None:
    assert said(CountingStreams(fails_after=3), seed=8) == ([70, 71], FinishReason.ERROR)


def test_the_repository_differs_in_the_chat_model_alone(tmp_path: Path) -> None:
    usual = ROOT / "model_repository"
    made = dictating_repository(usual, tmp_path / "models", {8: "Hello."})
    entry = Path("lm/step1_chat/1")
    assert json.loads((made / entry / REPLIES_FILE).read_text()) == {"8": "Hello."}
    for file in usual.glob("*/*/**/*.p[by]*"):
        place = file.relative_to(usual)
        if "checkpoints" not in place.parts and "__pycache__" not in place.parts:
            assert ((made / place).read_bytes() == file.read_bytes()) is (place != entry / "model.py")
