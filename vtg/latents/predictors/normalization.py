"""Latents as a predictor reads them: every channel with mean 0 and standard deviation 1 over the training clips."""

from collections.abc import Iterable

import torch
from torch import nn

from vtg.latents.latents import Latents

# A channel whose standard deviation is below this share of the largest is constant: divided by it, rounding would rule.
CONSTANT_SHARE = 1e-6


class LatentNormalizer(nn.Module):
    """Mean and standard deviation of each channel, kept with a predictor's weights; before `measure`, 0 and 1."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def measure(self, batches: Iterable[Latents]) -> None:
        """Takes mean and standard deviation from observed latents, a batch at a time; of all ranks, each with its own.

        Raises:
            ValueError: no latent is observed.
        """
        count, mean, squares = moments(batches, dim=len(self.mean))
        mean, squares = mean.to(self.mean.device), squares.to(self.mean.device)
        total, mean, squares = over_ranks(torch.tensor(count, device=mean.device, dtype=torch.float64), mean, squares)
        if total < 1:
            raise ValueError("no latent to measure: all of them stand for padding")
        std = (squares / total).sqrt()
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > CONSTANT_SHARE * std.max(), std, torch.ones_like(std)))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(..., D, T, H, W) latents of the encoder, in float32 and normalised."""
        return (values.float() - _channels(self.mean)) / _channels(self.std)

    def inverse(self, values: torch.Tensor) -> torch.Tensor:
        """The encoder's latents of normalised ones."""
        return values.float() * _channels(self.std) + _channels(self.mean)


def moments(batches: Iterable[Latents], *, dim: int) -> tuple[int, torch.Tensor, torch.Tensor]:
    """The number of observed latents, and of each channel their mean and the sum of squared distances from it, (D,)
    float64. In one pass (Chan, Golub and LeVeque, 1983): sums of squares would cancel where a mean is large."""
    count, mean, squares = 0, torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dtype=torch.float64)
    for latents in batches:
        rows = latents.values.movedim(1, -1)[latents.observed].reshape(-1, dim).double().cpu()
        if not len(rows):
            continue
        new_mean = rows.mean(dim=0)
        squares += (rows - new_mean).square().sum(dim=0)
        squares += (new_mean - mean).square() * (count * len(rows) / (count + len(rows)))
        mean += (new_mean - mean) * (len(rows) / (count + len(rows)))
        count += len(rows)
    return count, mean, squares


def over_ranks(
    count: torch.Tensor, mean: torch.Tensor, squares: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The moments of what all ranks have together."""
    if not torch.distributed.is_initialized():
        return count, mean, squares
    total, weighted = count.clone(), mean * count
    torch.distributed.all_reduce(total)
    torch.distributed.all_reduce(weighted)
    joint = weighted / total.clamp(min=1)
    # From distances to a rank's own mean to distances to that of all.
    squares = squares + count * (mean - joint).square()
    torch.distributed.all_reduce(squares)
    return total, joint, squares


def _channels(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None, None]
