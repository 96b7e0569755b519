"""Normalised training latents have mean 0 and standard deviation 1, whatever padding holds; the way back is exact."""

import pytest
import torch
from made_latents import DIM, hidden, random_latents

from vtg.latents.latents import Latents
from vtg.latents.predictors.normalization import LatentNormalizer


def scaled(latents: Latents, *, by: float, plus: float) -> Latents:
    return Latents(latents.values * by + plus, latents.times_s, latents.observed)


def test_all_batches_together_have_mean_zero_and_deviation_one_and_padding_counts_for_nothing():
    batches = [
        scaled(hidden(random_latents(2, 3), 1, 2), by=3.0, plus=1e4),
        scaled(hidden(random_latents(1, 2, seed=1), 0, 1), by=1.0, plus=0.0),
        scaled(random_latents(3, 5, seed=2), by=7.0, plus=1e4),
    ]
    normalizer = LatentNormalizer(DIM)
    normalizer.measure(batches)
    seen = torch.cat([normalizer(one.values).movedim(1, -1)[one.observed].reshape(-1, DIM) for one in batches])
    torch.testing.assert_close(seen.mean(dim=0), torch.zeros(DIM), atol=1e-3, rtol=0)
    torch.testing.assert_close(seen.std(dim=0, correction=0), torch.ones(DIM), atol=1e-3, rtol=0)
    values = batches[2].values
    torch.testing.assert_close(normalizer.inverse(normalizer(values)), values)


def test_a_constant_channel_is_centred_and_not_blown_up():
    latents = random_latents(2, 3)
    latents.values[:, 1] = 5.0
    normalizer = LatentNormalizer(DIM)
    normalizer.measure([latents])
    assert normalizer.std[1] == 1.0
    assert normalizer(latents.values)[:, 1].abs().max() < 1e-5
    assert normalizer(latents.values + 0.5)[:, 1].sub(0.5).abs().max() < 1e-5


def test_half_precision_is_normalised_in_full():
    normalizer = LatentNormalizer(DIM)
    assert normalizer(random_latents(1, 2).values.bfloat16()).dtype == torch.float32


def test_padding_alone_is_refused():
    with pytest.raises(ValueError, match="no latent to measure: all of them stand for padding"):
        LatentNormalizer(DIM).measure([hidden(random_latents(1, 2), 0, 1)])
