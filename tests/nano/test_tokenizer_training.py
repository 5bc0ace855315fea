"""Both speech tokenizers: what is trained is what runs."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from services.nano.tokenizers.folder import write_linguistic, write_semantic
from services.nano.tokenizers.kmeans import assign, kmeans
from services.nano.tokenizers.linguistic import encode_packed
from services.nano.tokenizers.quantiser import Quantiser
from services.nano.tokenizers.semantic import ROW_SIZE, SemanticNetwork
from services.shared.nn.features import whisper_log_mel
from services.shared.paths import SEMANTIC_ONNX_FILE
from services.tokenizer import load_speech_tokenizer
from services.tokenizer.paraformer.config import FEATURE_DIM, EncoderConfig
from services.tokenizer.paraformer.sanm import SanmEncoder

pytestmark = pytest.mark.unit

SIZES = EncoderConfig(output_size=16, attention_heads=2, linear_units=24, num_blocks=2)


def test_a_batch_gives_the_rows_that_streaming_gives_and_has_gradients() -> None:
    torch.manual_seed(0)
    encoder = SanmEncoder(SIZES)
    features = torch.randn(3, 28, FEATURE_DIM)
    rows = encode_packed(encoder, features)
    for own, found in zip(features, rows, strict=True):
        torch.testing.assert_close(found, encoder(own, encoder.initial_state())[0])
    rows.square().mean().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_kmeans_finds_well_separated_groups() -> None:
    torch.manual_seed(0)
    centres = 10 * torch.randn(5, 3)
    rows = centres.repeat_interleave(40, 0) + 0.01 * torch.randn(200, 3)
    found, left = kmeans(rows, 5, torch.ones(200), seed=1)
    assert left < 1e-3
    assert assign(centres, found)[1].max() < 0.01


def test_heavier_rows_draw_the_centroid() -> None:
    rows = torch.tensor([[0.0], [1.0]])
    found, _ = kmeans(rows, 1, torch.tensor([3.0, 1.0]), seed=0)
    assert found.item() == pytest.approx(0.25)


def test_lloyds_steps_go_on_from_centroids_that_were_learned() -> None:
    rows = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    start = torch.tensor([[9.0], [2.0]])
    found, _ = kmeans(rows, 2, torch.ones(4), seed=0, start=start)
    assert found.flatten().tolist() == [10.5, 0.5]
    assert start.flatten().tolist() == [9.0, 2.0]


def test_a_row_becomes_its_centroid_and_keeps_its_gradient() -> None:
    quantiser = Quantiser(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    rows = torch.tensor([[[0.2, 0.1], [0.9, 0.7]]], requires_grad=True)
    found, pull = quantiser(rows)
    assert found.tolist() == [[[0.0, 0.0], [1.0, 1.0]]]
    (found * torch.tensor([2.0, 3.0])).sum().backward(retain_graph=True)
    assert rows.grad is not None
    assert rows.grad.tolist() == [[[2.0, 3.0], [2.0, 3.0]]]
    assert quantiser.centroids.grad is None
    pull.backward()
    assert quantiser.centroids.grad is not None
    assert (quantiser.centroids.grad[0] < 0).all()  # towards its row: the step goes against the gradient
    assert (quantiser.centroids.grad[1] > 0).all()


def test_an_encoder_learns_to_do_with_its_codes() -> None:
    torch.manual_seed(0)
    inputs, labels = torch.randn(1, 600, 4), torch.randint(0, 4, (600,))
    inputs[0, :, 0] = labels - 1.5
    encoder, head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    quantiser = Quantiser(kmeans(encoder(inputs)[0].detach(), 4, torch.ones(600), seed=0)[0])
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters(), *quantiser.parameters()], lr=0.02)

    def right() -> float:
        return float((head(quantiser(encoder(inputs))[0])[0].argmax(1) == labels).float().mean())

    before = right()
    for _ in range(300):
        found, pull = quantiser(encoder(inputs))
        loss = torch.nn.functional.cross_entropy(head(found)[0], labels) + pull
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert before < 0.6
    assert right() > 0.9


def test_the_onnx_file_gives_the_nearest_centroid_and_says_the_place_in_the_group(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, centroids = SemanticNetwork(channels=16, blocks=2).eval(), torch.randn(512, ROW_SIZE) / 2
    write_semantic(network, centroids, tmp_path)
    log_mel = whisper_log_mel(torch.randn(16_000) / 10)[None]
    with torch.no_grad():
        nearest = assign(network(log_mel)[0], centroids)[0].numpy()
    session = ort.InferenceSession(str(tmp_path / SEMANTIC_ONNX_FILE), providers=["CPUExecutionProvider"])
    length = np.array([log_mel.shape[2]], np.int32)
    codes = session.run(None, {"feats": log_mel.numpy(), "feats_length": length})[0]
    assert codes.tolist() == (nearest + 1024 * (np.arange(len(nearest)) % 3)).tolist()


def test_the_written_folder_opens_through_the_room_and_gives_the_trained_codes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = SanmEncoder(SIZES).eval().half().float()
    shift, scale = torch.randn(FEATURE_DIM), torch.rand(FEATURE_DIM) + 0.5
    centroids = torch.randn(512, SIZES.output_size)
    write_linguistic(encoder, shift, scale, centroids, tmp_path)
    write_semantic(SemanticNetwork(channels=16, blocks=1), torch.randn(512, ROW_SIZE), tmp_path)
    room = load_speech_tokenizer(tmp_path)
    samples = (np.random.default_rng(0).standard_normal(19_200) / 10).astype(np.float32)
    features, _ = room.linguistic.front_end.push(
        torch.from_numpy(samples), room.linguistic.front_end.initial_state(), final=True
    )
    with torch.no_grad():
        wanted = assign(encode_packed(encoder, features[None, :20])[0], centroids)[0]
    rows, _ = room.linguistic.encode(samples, room.linguistic.initial_state(), final=True)
    assert room.linguistic.quantize(rows)[:20].tolist() == wanted.tolist()
