"""What any predictor of latents has to beat: predictions that nothing is trained for."""

from collections.abc import Callable

import torch

from vtg.latents.latents import Latents
from vtg.latents.predictors.future_predictor import end_s, last_latent


def copy_last(context: Latents, target_times_s: torch.Tensor) -> torch.Tensor:
    """The last latent of the context that is observed, at all times: hard to beat where little moves."""
    last = last_latent(context.values.float(), context.observed)
    return last.expand(-1, -1, target_times_s.shape[1], -1, -1)


def mean(context: Latents, target_times_s: torch.Tensor) -> torch.Tensor:
    """The mean of the context's observed latents, at all times: better where the last one is noisy or a passing one."""
    weights = _weights(context)
    found = (context.values.double() * weights).sum(dim=2, keepdim=True) / weights.sum(dim=2, keepdim=True)
    return found.float().expand(-1, -1, target_times_s.shape[1], -1, -1)


def linear(context: Latents, target_times_s: torch.Tensor) -> torch.Tensor:
    """The straight line of least squares through the context's observed latents in time, continued; a clip with one
    observed latent keeps it."""
    weights = _weights(context)
    count = weights.sum(dim=2, keepdim=True)
    values = context.values.double()
    past_s = (context.times_s - end_s(context))[:, None, :, None, None]
    middle_s = (past_s * weights).sum(dim=2, keepdim=True) / count
    middle = (values * weights).sum(dim=2, keepdim=True) / count
    spread = ((past_s - middle_s).square() * weights).sum(dim=2, keepdim=True)
    slope = ((past_s - middle_s) * (values - middle) * weights).sum(dim=2, keepdim=True)
    slope = torch.where(spread > 0, slope / torch.where(spread > 0, spread, 1), 0)
    ahead_s = (target_times_s - end_s(context))[:, None, :, None, None]
    return (middle + slope * (ahead_s - middle_s)).float()


BASELINES: dict[str, Callable[[Latents, torch.Tensor], torch.Tensor]] = {
    "copy_last": copy_last,
    "mean": mean,
    "linear": linear,
}
"""Name in scores → prediction: (B, D, T2, H, W) float32 at times (B, T2) in seconds."""


def _weights(context: Latents) -> torch.Tensor:
    """(B, 1, T, 1, 1): 1 where a latent is observed."""
    return context.observed[:, None, :, None, None].to(context.values.device, torch.float64)
