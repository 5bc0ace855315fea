"""Codes are the nearest centroids, in the public file too."""

import numpy as np
import pytest
import torch

from services.tokenizer.paraformer.quantizer import KMeansQuantizer, load_centroids
from tests.conftest import published_file

pytestmark = pytest.mark.unit


def test_a_code_is_the_nearest_centroid() -> None:
    generator = torch.Generator().manual_seed(0)
    centroids, rows = torch.randn(1024, 16, generator=generator), torch.randn(5000, 16, generator=generator)
    codes = KMeansQuantizer(centroids).codes(rows)
    assert codes.dtype == torch.int64
    assert torch.equal(codes, torch.cdist(rows.double(), centroids.double()).argmin(dim=1))


def test_of_two_equal_centroids_the_first_is_taken_and_no_rows_have_no_codes() -> None:
    quantizer = KMeansQuantizer(torch.tensor([[5.0], [1.0], [1.0]]))
    assert quantizer.codes(torch.tensor([[0.9]])).tolist() == [1]
    assert quantizer.codes(torch.zeros(0, 1)).shape == (0,)


def test_near_centroids_far_from_the_origin_are_told_apart() -> None:
    centroids = 1000.0 + torch.tensor([[0.0] * 64, [1e-3] * 64])
    assert KMeansQuantizer(centroids).codes(centroids).tolist() == [0, 1]


def test_each_published_centroid_is_its_own_code() -> None:
    path = published_file("linguistic_tokenizer.npy")
    centroids = load_centroids(path, 512)
    assert centroids.shape == (1024, 512)
    assert centroids.dtype == torch.float32
    assert np.array_equal(KMeansQuantizer(centroids).codes(centroids).numpy(), np.arange(1024))
