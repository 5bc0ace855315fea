"""The turn model: one suite for the fake and for a network of its form; then the real file, where it is.

The file is no part of the project. `STEPAUDIO_TURN_MODEL` names it; docs/turn-taking.md says how to get it.
"""

import asyncio
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from services.orchestrator.adapters.smart_turn import SmartTurnModel, normalized
from services.orchestrator.config import SMART_TURN_SHA256
from services.orchestrator.ports.hearing import TURN_SAMPLES, TurnModel
from services.shared.audio.pcm import Samples
from services.shared.errors import AudioError, CorruptFileError, MissingFileError, OverloadedError
from stepaudio.sources import read_speech
from tests.conftest import ROOT
from tests.fakes.hearing import FakeTurnModel

REAL = Path(os.environ.get("STEPAUDIO_TURN_MODEL", ""))
QUESTIONS = sorted((ROOT / "benchmarks" / "data" / "nano_questions" / "wav").glob("*.wav"))


def write_network(path: Path, *, name: str = "input_features", frames: int = 800) -> str:
    """A network of the real one's form that tells how loud the newest tenth of the features is; its checksum."""
    taken = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 80, frames])
    given = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 1])
    ends = [
        helper.make_tensor(key, TensorProto.INT64, [1], [value]) for key, value in (("a", 720), ("b", 800), ("c", 2))
    ]
    nodes = [
        helper.make_node("Slice", [name, "a", "b", "c"], ["newest"]),
        helper.make_node("ReduceMean", ["newest"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Sigmoid", ["mean"], ["probability"]),
        helper.make_node("Reshape", ["probability", "shape"], ["logits"]),
    ]
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 1])
    graph = helper.make_graph(nodes, "turns", [taken], [given], [*ends, shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def network(tmp_path: Path) -> Iterator[SmartTurnModel]:
    path = tmp_path / "turns.onnx"
    model = SmartTurnModel(path, sha256=write_network(path), max_waiting=2)
    yield model
    model.close()


@pytest.fixture(params=["fake", "network"])
def turn_model(request: pytest.FixtureRequest) -> TurnModel:
    if request.param == "fake":
        return FakeTurnModel([0.3] * 10)
    made: TurnModel = request.getfixturevalue("network")
    return made


def noise(samples: int, level: float = 0.1) -> Samples:
    return np.random.default_rng(2).normal(0.0, level, samples).astype(np.float32)


@pytest.mark.contract
@pytest.mark.parametrize("samples", [1, 8_000, TURN_SAMPLES])
def test_a_turn_of_any_length_gets_a_probability(turn_model: TurnModel, samples: int) -> None:
    assert 0.0 <= asyncio.run(turn_model.judge(noise(samples))) <= 1.0


@pytest.mark.unit
def test_the_end_of_the_turn_is_where_the_network_looks_for_it(network: SmartTurnModel) -> None:
    loud_end = np.concatenate([np.zeros(32_000, np.float32), noise(16_000)])
    quiet_end = np.concatenate([noise(16_000), np.zeros(32_000, np.float32)])
    assert asyncio.run(network.judge(loud_end)) > asyncio.run(network.judge(quiet_end))


@pytest.mark.unit
def test_a_short_turn_has_silence_in_front_and_any_turn_the_same_loudness() -> None:
    turn = noise(16_000) + 0.5
    for level in (1.0, 0.05):
        given = normalized(level * turn)
        assert len(given) == TURN_SAMPLES
        assert given.mean() == pytest.approx(0.0, abs=1e-4)
        assert given.std() == pytest.approx(1.0, rel=0.01)
        assert np.ptp(given[: TURN_SAMPLES - 16_000]) == 0.0
    assert np.all(normalized(np.zeros(100, np.float32)) == 0.0)


@pytest.mark.unit
@pytest.mark.parametrize("samples", [0, TURN_SAMPLES + 1])
def test_what_is_no_turn_is_refused(network: SmartTurnModel, samples: int) -> None:
    with pytest.raises(AudioError, match=str(samples)):
        asyncio.run(network.judge(noise(samples)))


@pytest.mark.unit
def test_the_event_loop_runs_on_while_a_turn_is_judged_and_no_more_wait_than_may(
    network: SmartTurnModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on, threads = threading.Event(), []

    def judge(samples: Samples) -> float:
        threads.append(threading.current_thread().name)
        assert may_go_on.wait(10)
        return float(len(samples))

    monkeypatch.setattr(network, "_judge", judge)

    async def main() -> list[float]:
        async with asyncio.TaskGroup() as tasks:
            two = [tasks.create_task(network.judge(noise(length))) for length in (1, 2)]
            await asyncio.sleep(0)
            with pytest.raises(OverloadedError) as caught:
                await network.judge(noise(3))
            assert caught.value.details == {"limit": "2"}
            may_go_on.set()
        return [task.result() for task in two]

    assert asyncio.run(main()) == [1.0, 2.0]
    assert all(name.startswith("turn-model") for name in threads)


@pytest.mark.unit
def test_who_does_not_wait_any_more_is_not_judged(network: SmartTurnModel, monkeypatch: pytest.MonkeyPatch) -> None:
    may_go_on, judged = threading.Event(), []

    def judge(samples: Samples) -> float:
        judged.append(len(samples))
        assert may_go_on.wait(10)
        return 0.5

    monkeypatch.setattr(network, "_judge", judge)

    async def main() -> None:
        first, second = (asyncio.ensure_future(network.judge(noise(length))) for length in (1, 2))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        may_go_on.set()
        assert await first == 0.5
        assert await network.judge(noise(3)) == 0.5

    asyncio.run(main())
    assert judged == [1, 3]


@pytest.mark.unit
def test_a_file_that_is_not_the_one_meant_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"docs/turn-taking\.md"):
        SmartTurnModel(tmp_path / "absent.onnx", sha256=SMART_TURN_SHA256)
    path = tmp_path / "other.onnx"
    checksum = write_network(path)
    with pytest.raises(CorruptFileError, match="SHA-256"):
        SmartTurnModel(path, sha256=SMART_TURN_SHA256)
    path.write_bytes(path.read_bytes()[:-5] + b"xxxxx")
    with pytest.raises(CorruptFileError, match="SHA-256"):
        SmartTurnModel(path, sha256=checksum)


@pytest.mark.unit
@pytest.mark.parametrize(("name", "frames"), [("audio", 800), ("input_features", 3000)])
def test_a_network_of_another_form_is_refused(tmp_path: Path, name: str, frames: int) -> None:
    path = tmp_path / "other.onnx"
    with pytest.raises(CorruptFileError, match="no turn model"):
        SmartTurnModel(path, sha256=write_network(path, name=name, frames=frames))


@pytest.mark.unit
def test_what_is_no_network_at_all_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("words")
    with pytest.raises(CorruptFileError, match="not readable"):
        SmartTurnModel(path, sha256=hashlib.sha256(b"words").hexdigest())


@pytest.mark.integration
@pytest.mark.skipif(not REAL.is_file(), reason="STEPAUDIO_TURN_MODEL names no file: the weights are not the project's")
def test_the_real_network_finds_whole_questions_more_complete_than_their_beginnings() -> None:
    model = SmartTurnModel(REAL, sha256=SMART_TURN_SHA256)

    def judged(share: float) -> list[float]:
        found = []
        for path in QUESTIONS:
            speech = read_speech(path, 16_000)
            heard = np.concatenate([speech[: int(share * len(speech))], np.zeros(3_200, np.float32)])
            found.append(asyncio.run(model.judge(heard[-TURN_SAMPLES:])))
        return found

    whole, beginnings = judged(1.0), judged(0.3)
    model.close()
    assert np.median(whole) > 0.9
    assert np.mean(whole) > np.mean(beginnings) + 0.1
