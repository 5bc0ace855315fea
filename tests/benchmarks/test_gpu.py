"""Operations and bytes are counted right, and the benchmark of engines runs dry on a CPU."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.gpu import measuring
from benchmarks.gpu.__main__ import Row, attempted, main
from benchmarks.gpu.roofline import CHAT_130B, PEAKS, Work, counted, peak_of, step1_decode, step1_weights, weight_bytes
from services.shared import paths
from services.shared.nn.step1 import load_step1
from tests.conftest import NANO


@pytest.mark.unit
def test_a_product_counts_two_operations_for_each_number_of_its_matrix() -> None:
    layer = nn.Linear(30, 20)
    assert counted(lambda: layer(torch.zeros(7, 30))) == 2 * 7 * 30 * 20
    assert weight_bytes(layer) == 4 * (30 * 20 + 20)
    kernel = nn.Conv1d(8, 16, 3, padding=1)
    assert counted(lambda: kernel(torch.zeros(1, 8, 50))) == 2 * 50 * 16 * 8 * 3


@pytest.mark.unit
def test_the_counted_weights_of_a_language_model_are_those_of_its_layers_and_head() -> None:
    model = load_step1(NANO / paths.TTS_FOLDER)
    matrices = {id(p): p.numel() for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name}
    head = model.lm_head.weight
    matrices[id(head)] = head.numel()
    assert step1_weights(model.config) == sum(matrices.values())


@pytest.mark.unit
@pytest.mark.parametrize(("batch", "context"), [(1, 1), (3, 1), (2, 40)])
def test_a_decoding_step_takes_the_operations_that_torch_counts(batch: int, context: int) -> None:
    model = load_step1(NANO / paths.TTS_FOLDER)
    cache = model.new_cache(batch)
    if context > 1:
        model.extend(torch.ones(batch, context - 1, dtype=torch.int64), cache)
    operations = counted(lambda: model.extend(torch.ones(batch, 1, dtype=torch.int64), cache))
    assert step1_decode(model.config, batch=batch, context=context).operations == pytest.approx(operations, rel=1e-6)


@pytest.mark.unit
def test_bytes_of_a_step_are_the_weights_once_and_the_context_of_each_reply() -> None:
    alone, together = (step1_decode(CHAT_130B, batch=batch, context=1000) for batch in (1, 16))
    token_bytes = 2 * 88 * 8 * 128 * 2
    assert token_bytes == 352 * 1024
    assert together.bytes - alone.bytes == 15 * 1000 * token_bytes
    assert together.operations == 16 * alone.operations


@pytest.mark.unit
@pytest.mark.parametrize(
    ("device", "count", "efficiency", "anchor"),
    [("A800", 4, 0.65, 20), ("H800", 4, 0.65, 33), ("H100", 8, 0.65, 66), ("H200", 8, 0.65, 95)],
)
def test_the_130b_model_at_batch_1_meets_the_anchors(device: str, count: int, efficiency: float, anchor: int) -> None:
    best_s = step1_decode(CHAT_130B, batch=1, context=0).best_s(PEAKS[device].times(count))
    assert efficiency / best_s == pytest.approx(anchor, rel=0.05)


@pytest.mark.unit
def test_a_device_is_known_by_the_words_of_its_driver() -> None:
    assert peak_of("NVIDIA H100 80GB HBM3") is PEAKS["H100"]
    assert peak_of("NVIDIA A800-SXM4-80GB") is PEAKS["A800"]
    assert peak_of("NVIDIA L20") is PEAKS["L20"]
    assert peak_of("Some Other Device") is None
    assert Work(2e12, 1e9).best_s(PEAKS["L20"]) == pytest.approx(2e12 / 119.5e12)
    assert (Work(1, 2) + Work(3, 4)) * 2 == Work(8, 12)


@pytest.mark.unit
def test_a_spread_is_the_median_and_the_95th_percentile() -> None:
    times = measuring.spread([0.001 * value for value in range(1, 101)])
    assert times.p50_ms == pytest.approx(50.5)
    assert times.p95_ms == pytest.approx(95.0)


@pytest.mark.unit
def test_energy_is_left_out_where_nothing_can_read_it() -> None:
    done: list[int] = []
    assert measuring.EnergyMeter("cpu").joules(lambda: done.append(1)) is None
    assert done == [1]


@pytest.mark.integration
def test_a_dry_run_measures_what_is_here_and_says_what_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--dry-run", "--work", str(tmp_path), "--engines", "torch", "tensorrt", "--streams", "1"]) == 0
    rows = {(row["room"], row["engine"]): row for row in json.loads((tmp_path / "gpu.json").read_text())["rows"]}
    assert rows["vocoder", "torch"]["figures"]["log-mel from torch"] == 0
    assert rows["vocoder", "torch"]["figures"]["first chunk ms p50, 1"] > 0
    assert "no CUDA device" in rows["vocoder", "tensorrt"]["absent"]
    assert rows["tokenizer", "torch"]["figures"]["RTF"] > 0
    assert rows["tts", "torch"]["figures"]["tokens/s, 2"] > 0
    assert "CUDA" in rows["tts", "vllm"]["absent"]
    assert "| engine |" in capsys.readouterr().out


@pytest.mark.unit
def test_an_engine_that_fails_keeps_its_figures_and_says_why() -> None:
    def fail(_engine: str, row: Row) -> None:
        row.figures["RTF"] = 0.5
        raise RuntimeError("out of memory")

    assert attempted("vocoder", "tensorrt", fail) == Row(
        "vocoder", "tensorrt", {"RTF": 0.5}, "RuntimeError: out of memory"
    )


@pytest.mark.unit
def test_without_a_device_the_benchmark_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit):
        main([])
    assert "--dry-run" in capsys.readouterr().err
