"""Futures longer than a predictor was trained on: window after window, each from what was predicted before."""

import torch

from vtg.latents.latents import Latents
from vtg.latents.predictors.drawing import Generators
from vtg.latents.predictors.future_predictor import FuturePredictor


def rollout(
    predictor: FuturePredictor,
    context: Latents,
    target_times_s: torch.Tensor,
    *,
    window: int,
    drawn: bool = False,
    generator: Generators = None,
) -> torch.Tensor:
    """(B, D, T2, H, W) at increasing times (B, T2), `window` of them at a time.

    The context keeps its length: the predictions of a window push out its oldest latents, and its times go along, so
    that a predictor never sees more, or longer ago, than in training.

    Args:
        drawn: every window is one drawn future (`FuturePredictor.futures`), and so the whole is; else it is the
            prediction, a mean of futures that is none itself, from which the next window goes on all the same.
    """
    predicted: list[torch.Tensor] = []
    for times_s in target_times_s.split(window, dim=1):
        if drawn:
            predicted.append(predictor.futures(context, times_s, generator, count=1)[0])
        else:
            predicted.append(predictor.predict(context, times_s, generator))
        # Times go along, so that horizons stay those of training.
        context = _moved_on(context, predicted[-1], times_s)
    return torch.cat(predicted, dim=2)


def _moved_on(context: Latents, values: torch.Tensor, times_s: torch.Tensor) -> Latents:
    """The latest latents of both, as many as the context has."""
    longer = Latents(
        torch.cat([context.values, values.to(context.values.dtype)], dim=2),
        torch.cat([context.times_s, times_s], dim=1),
        torch.cat([context.observed, torch.ones_like(times_s, dtype=torch.bool)], dim=1),
    )
    return longer.steps(slice(-context.values.shape[2], None))
