"""Where and when a latent is, as features: sines and cosines of seconds and of places on the grid."""

import math

import torch
from torch import nn

# Periods in seconds: from less than two frames of any video to the longest clips. And in places of a grid: a sine with
# a period of two places is 0 at all of them.
SHORTEST_S, LONGEST_S = 0.05, 200.0
SHORTEST_PLACES, LONGEST_PLACES = 4.0, 200.0


def sinusoids(at: torch.Tensor, count: int, *, shortest: float, longest: float) -> torch.Tensor:
    """(..., count) features of positions (...): sine and cosine of periods spread evenly in logarithm (Vaswani et al.,
    2017, arXiv 1706.03762). `count` must be even.
    """
    spread = torch.linspace(math.log(shortest), math.log(longest), count // 2, dtype=torch.float64, device=at.device)
    # In double: of hours over the shortest periods, single precision leaves no digits behind the point.
    angles = at[..., None].double() * (2 * math.pi / spread.exp())
    return torch.cat([angles.sin(), angles.cos()], dim=-1).float()


class TimeEmbedding(nn.Module):
    """(..., width) of times (...), of which `shortest` and `longest` are the first and last period told apart."""

    def __init__(self, width: int, *, shortest: float = SHORTEST_S, longest: float = LONGEST_S) -> None:
        super().__init__()
        self.width, self.shortest, self.longest = width, shortest, longest
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, times: torch.Tensor) -> torch.Tensor:
        return self.mlp(sinusoids(times, self.width, shortest=self.shortest, longest=self.longest))


def grid_features(grid: tuple[int, int], width: int, device: torch.device) -> torch.Tensor:
    """(H * W, width): half of the features are of the row, half of the column. `width` must be a multiple of 4."""
    axes = [
        sinusoids(torch.arange(size, device=device), width // 2, shortest=SHORTEST_PLACES, longest=LONGEST_PLACES)
        for size in grid
    ]
    rows, columns = axes[0][:, None].expand(-1, grid[1], -1), axes[1].expand(grid[0], -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)
