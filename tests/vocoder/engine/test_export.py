"""The vocoder by exported graphs is the vocoder by torch, streamed and whole, alone and together."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from services.shared.errors import CheckpointError, CorruptFileError, InvalidOptionError, MissingFileError
from services.shared.graphs.opening import GraphSettings
from services.vocoder import Vocoder, load_vocoder
from services.vocoder.config import FLOW_FILE, load_config
from services.vocoder.graphs import all_graphs, graphs_key
from services.vocoder.onnx_networks import OnnxFlow, OnnxHiFT
from services.vocoder.streaming import Push
from tests.conftest import report
from tests.vocoder.cases import Array, nano_tokens, nano_voice
from tests.vocoder.engine.conftest import Toy
from tests.vocoder.engine.toy import write_folder

UNKNOWN_TO_TENSORRT = {"STFT", "DFT", "ScatterND", "Loop", "If", "SequenceConstruct", "SplitToSequence"}


def spoken(vocoder: Vocoder, groups: int, *, seed: int) -> Array:
    state, chunks = vocoder.initial_state(seed), []
    tokens = nano_tokens(groups)
    for place in range(0, len(tokens) + 5, 5):
        chunk, state = vocoder.chunk(tokens[place : place + 5], nano_voice(), state, final=place >= len(tokens))
        chunks.append(chunk)
    return np.concatenate(chunks)


@pytest.mark.unit
def test_a_stream_by_graphs_is_the_stream_by_torch(toy: Toy) -> None:
    report("stream", spoken(toy.by_graphs, 20, seed=3), spoken(toy.by_torch, 20, seed=3), max_abs=1e-3)


@pytest.mark.unit
def test_a_whole_utterance_by_graphs_is_the_one_by_torch(toy: Toy) -> None:
    tokens = nano_tokens(7)
    by_graphs = toy.by_graphs.wave(tokens, nano_voice(), seed=1)
    report("wave", by_graphs, toy.by_torch.wave(tokens, nano_voice(), seed=1), max_abs=1e-3)


@pytest.mark.unit
def test_streams_that_share_a_pass_get_what_each_gets_alone(toy: Toy) -> None:
    room = toy.by_graphs
    pushes = [Push(nano_tokens(12, seed=seed), nano_voice(), room.initial_state(seed), final=True) for seed in range(3)]
    together = room.chunks(pushes)
    for push, result in zip(pushes, together, strict=True):
        assert not isinstance(result, Exception)
        alone, _ = room.chunk(push.tokens, push.voice, push.state, final=True)
        report("shared pass", result[0], alone, max_abs=2e-4)


@pytest.mark.unit
def test_the_callers_noise_is_not_written_over(toy: Toy) -> None:
    assert isinstance(toy.by_graphs.flow, OnnxFlow)
    noise = torch.randn(1, 80, 30, generator=torch.Generator().manual_seed(0))
    before = noise.clone()
    mu, speaker = torch.zeros(1, 80, 30), torch.zeros(1, 80)
    first = toy.by_graphs.flow.integrate(noise, mu, speaker, mu)
    assert torch.equal(noise, before)
    assert torch.equal(toy.by_graphs.flow.integrate(noise, mu, speaker, mu), first)


@pytest.mark.unit
@pytest.mark.parametrize("count", [1, 4, 10])
def test_any_number_of_steps_is_that_of_torch(toy: Toy, count: int) -> None:
    noise, mu = torch.randn(2, 2, 80, 30, generator=torch.Generator().manual_seed(0)).unbind()
    speaker = torch.ones(2, 80)
    with torch.inference_mode():
        expected = toy.by_torch.flow.integrate(noise, mu, speaker, mu, count=count)
    report(f"{count} steps", toy.by_graphs.flow.integrate(noise, mu, speaker, mu, count=count), expected, max_abs=1e-4)


@pytest.mark.unit
def test_the_networks_that_graphs_replace_take_no_memory(toy: Toy) -> None:
    flow, hift = toy.by_graphs.flow, toy.by_graphs.hift
    assert isinstance(hift, OnnxHiFT)
    kept = {name.split(".")[0] for part in (flow, hift) for name, p in part.named_parameters() if not p.is_meta}
    assert kept == {"spk_embed_affine_layer", "length_regulator", "m_source"}


@pytest.mark.unit
def test_graphs_hold_only_operators_that_tensorrt_has(toy: Toy) -> None:
    (folder,) = (path for path in toy.settings.cache.iterdir() if path.is_dir())
    for spec in all_graphs(load_config(toy.folder)):
        graph = onnx.load(str(folder / spec.file)).graph
        assert not UNKNOWN_TO_TENSORRT & {node.op_type for node in graph.node}, spec.name
        assert {node.domain for node in graph.node} == {""}


@pytest.mark.unit
def test_graphs_that_were_not_exported_are_missing(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="not exported"):
        load_vocoder(toy.folder, graphs=GraphSettings(tmp_path))


@pytest.mark.unit
def test_graphs_of_other_weights_are_not_found(toy: Toy, tmp_path: Path) -> None:
    other = write_folder(tmp_path / "other", seed=1)
    assert graphs_key(other) != graphs_key(toy.folder)
    with pytest.raises(MissingFileError):
        load_vocoder(other, graphs=toy.settings)
    (other / FLOW_FILE).unlink()
    with pytest.raises(CheckpointError):
        graphs_key(other)


@pytest.mark.unit
def test_a_damaged_graph_is_not_served(toy: Toy, tmp_path: Path) -> None:
    (folder,) = (path for path in toy.settings.cache.iterdir() if path.is_dir())
    copy = tmp_path / folder.name
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    content = bytearray((copy / "flow_step.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "flow_step.onnx").write_bytes(bytes(content))
    with pytest.raises(CorruptFileError, match="flow_step"):
        load_vocoder(toy.folder, graphs=GraphSettings(tmp_path))


@pytest.mark.unit
def test_graphs_run_in_float32_and_on_what_is_there(toy: Toy) -> None:
    with pytest.raises(InvalidOptionError, match="float32"):
        load_vocoder(toy.folder, dtype=torch.bfloat16, graphs=toy.settings)
    with pytest.raises(InvalidOptionError, match="CUDA"):
        load_vocoder(toy.folder, graphs=GraphSettings(toy.settings.cache, tensorrt=True))
