"""vLLM itself, on a CPU, with the nano checkpoint: the ids of the torch batcher, and nothing left behind.

Everything runs but the attention kernel, which is torch's (see sqrt_alibi_cpu.py). Starting takes a minute of CPU, so
one engine serves all tests.
"""

import asyncio
import gc
import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed: it has an environment of its own")

from services.shared.decoding import ContinuousBatcher
from services.shared.decoding.vllm.opening import open_vllm
from services.shared.decoding.vllm.options import VllmOptions
from services.shared.decoding.vllm.stats import StatsTaker
from services.shared.decoding.vllm.streams import VllmStreams
from services.shared.errors import RoomUnavailableError
from services.shared.nn.step1 import load_step1
from services.shared.paths import CHAT_FOLDER
from services.shared.sampling import FinishReason, IdRange, SamplingParams
from tests.conftest import NANO, ROOT
from tests.shared.decoding.vllm.sqrt_alibi_cpu import install_plugin

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("default")]  # vLLM's own warnings are its own

GREEDY = SamplingParams(max_new_tokens=24, temperature=0)
LONG_PROMPT = [4 + number * 7 % 600 for number in range(300)]


@dataclass
class Running:
    streams: VllmStreams
    stats: StatsTaker
    torch: ContinuousBatcher

    def both(self, prompt: Sequence[int], params: SamplingParams) -> tuple[list[int], list[int]]:
        """The ids of vLLM, and those of the torch batcher."""
        return asyncio.run(self.read(prompt, params))[0], list(self.torch.generate(prompt, params))

    async def read(self, prompt: Sequence[int], params: SamplingParams) -> tuple[list[int], FinishReason | None]:
        ids: list[int] = []
        reason = None
        async for output in self.streams.stream(prompt, params, is_gone=lambda: False):
            assert output.error is None, output.error
            ids += output.ids
            reason = output.finish_reason
        return ids, reason


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("vllm")
    install_plugin(folder)
    sys.path.insert(0, str(folder))
    paths = os.pathsep.join([str(folder), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", paths)  # vLLM's processes are started anew
        patch.setenv("VLLM_LOGGING_LEVEL", "WARNING")
        stats = StatsTaker()
        options = VllmOptions(
            dtype="float32", max_batch=4, context_tokens=1024, kv_cache_mib=32, prefill_tokens=64, graphs=False
        )
        streams = open_vllm(_with_hostile_code(folder), options, stats=stats)
        running = Running(streams, stats, ContinuousBatcher(load_step1(NANO / CHAT_FOLDER), max_batch=4))
        try:
            yield running
        finally:
            streams.close()
            sys.path.remove(str(folder))
            vars(streams).clear()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # vLLM leaves its sockets' context to the collector
                gc.collect()


def _with_hostile_code(folder: Path) -> Path:
    """The nano checkpoint with code of its own, as the public ones have; whoever runs it leaves a mark."""
    checkpoint = folder / "checkpoint"
    shutil.copytree(NANO / CHAT_FOLDER, checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    names = {"AutoConfig": "configuration_step1.Step1Config", "AutoModelForCausalLM": "modeling_step1.Step1ForCausalLM"}
    (checkpoint / "config.json").write_text(json.dumps({**config, "auto_map": names}))
    for name in ("configuration_step1", "modeling_step1"):
        mark = f"open({str(folder / 'executed')!r}, 'w').close()\n"
        (checkpoint / f"{name}.py").write_text(mark + "raise RuntimeError('executed')\n")
    return checkpoint


def test_the_checkpoints_own_code_is_never_run(engine: Running, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert not list(tmp_path_factory.getbasetemp().glob("vllm*/executed"))


@pytest.mark.parametrize("prompt", [[1, 2, 3, 40, 50], [1], LONG_PROMPT], ids=["short", "one id", "several pieces"])
@pytest.mark.parametrize("repetition_aware", [False, True])
def test_greedy_ids_are_those_of_the_torch_batcher(engine: Running, prompt: list[int], repetition_aware: bool) -> None:
    ours, theirs = engine.both(prompt, replace(GREEDY, repetition_aware=repetition_aware))
    assert ours == theirs
    assert len(ours) == GREEDY.max_new_tokens


def test_the_repetition_rule_changes_a_reply_that_repeats(engine: Running) -> None:
    params = replace(GREEDY, max_new_tokens=60, allowed_ids=IdRange(100, 103))
    free, ruled = (engine.both([1, 2, 3], replace(params, repetition_aware=aware)) for aware in (False, True))
    assert free[0] == free[1]
    assert ruled[0] == ruled[1]
    assert ruled != free


def test_a_stop_id_ends_the_reply_and_is_no_part_of_it(engine: Running) -> None:
    ours, theirs = engine.both([1, 2, 3, 40, 50], replace(GREEDY, stop_ids=(3,)))
    assert ours == theirs
    assert 3 not in ours
    assert asyncio.run(engine.read([1, 2, 3, 40, 50], replace(GREEDY, stop_ids=(3,))))[1] is FinishReason.STOP


def test_allowed_ids_hold_a_sampled_reply_to_their_range(engine: Running) -> None:
    params = SamplingParams(max_new_tokens=20, seed=5, temperature=1.0, top_k=0, allowed_ids=IdRange(100, 120))
    first, second = (asyncio.run(engine.read([1, 2, 3], params))[0] for _ in range(2))
    assert all(100 <= token < 120 for token in first)
    assert first == second, "the same seed gives the same ids"


def test_replies_at_once_are_those_of_each_alone(engine: Running) -> None:
    prompts = [[1, 2, 3, 40 + number] * (1 + 9 * number) for number in range(6)]

    async def all_at_once() -> list[tuple[list[int], FinishReason | None]]:
        return list(await asyncio.gather(*(engine.read(prompt, GREEDY) for prompt in prompts)))

    alone = [list(engine.torch.generate(prompt, GREEDY)) for prompt in prompts]
    assert [ids for ids, _ in asyncio.run(all_at_once())] == alone


def test_a_reply_ends_where_the_context_ends(engine: Running) -> None:
    ids, reason = asyncio.run(engine.read([4] * 1020, replace(GREEDY, max_new_tokens=100)))
    assert (len(ids), reason) == (4, FinishReason.LENGTH)


def test_whoever_leaves_is_aborted_in_the_engine(engine: Running) -> None:
    endless = SamplingParams(max_new_tokens=900, temperature=0)

    async def leave_in_two_ways() -> FinishReason | None:
        async with aclosing(engine.streams.stream([1, 2, 3], endless, is_gone=lambda: False)) as closed:
            await anext(closed)
        gone = _after(5)
        outputs = [output async for output in engine.streams.stream([1, 2, 3], endless, is_gone=gone)]
        assert sum(len(output.ids) for output in outputs) < 900
        return outputs[-1].finish_reason

    assert asyncio.run(leave_in_two_ways()) is FinishReason.CANCELLED
    assert engine.streams.open_requests == 0
    asyncio.run(engine.read([1], replace(GREEDY, max_new_tokens=2)))
    assert engine.stats.take().running == 0, "the engine has nothing left to do"


def _after(times: int) -> Callable[[], bool]:
    asked = iter(range(times))
    return lambda: next(asked, None) is None


def test_the_engines_numbers_are_counted(engine: Running) -> None:
    prompt = [9 + number for number in range(200)]
    engine.stats.take()
    for _ in range(2):
        asyncio.run(engine.read(prompt, GREEDY))
    asyncio.run(engine.read([1], replace(GREEDY, max_new_tokens=1)))
    told = engine.stats.take()
    assert told.prompt_tokens == 401
    assert 0 < told.prefix_found_tokens < told.prefix_asked_tokens <= 401
    assert len(told.first_token_s) == 3
    assert len(told.queued_s) == 3
    assert len(told.token_interval_s) > 40


def test_a_stream_that_is_open_when_the_engine_closes_ends(engine: Running) -> None:
    """The last test of the file: it closes the engine that all others share."""

    async def close_meanwhile() -> FinishReason | None:
        outputs = engine.streams.stream([1, 2], replace(GREEDY, max_new_tokens=900), is_gone=lambda: False)
        await anext(outputs)
        await asyncio.to_thread(engine.streams.close)
        return [output async for output in outputs][-1].finish_reason

    assert asyncio.run(close_meanwhile()) is FinishReason.CANCELLED
    with pytest.raises(RoomUnavailableError):
        asyncio.run(engine.read([1], GREEDY))
