"""How far predicted latents are from true ones: the losses of training, and what predictions are scored by."""

from collections.abc import Callable

import torch
from torch.nn import functional


def l1(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """(B, T, H, W): the mean absolute difference over the channels of (B, D, T, H, W)."""
    return (predicted - true).abs().mean(dim=1)


def l2(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """(B, T, H, W): the mean squared difference over the channels of (B, D, T, H, W)."""
    return (predicted - true).square().mean(dim=1)


def cosine(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """(B, T, H, W): 1 - the cosine between the channels of (B, D, T, H, W); 0 where they point alike, at most 2."""
    return 1 - functional.cosine_similarity(predicted, true, dim=1)


ERRORS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"l1": l1, "l2": l2, "cosine": cosine}
"""The values of `predictor.loss`, and the columns of scores."""


def observed_mean(errors: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """The mean of (B, T, H, W) errors over the latents that are observed, (B, T) bool; 0 where none is.

    Errors of the others carry no gradient, whatever they are.
    """
    # Not a product with 0: an error that is not finite would still be one.
    kept = torch.where(observed[:, :, None, None], errors, 0.0)
    places = errors.shape[2] * errors.shape[3]
    return kept.sum() / (observed.sum() * places).clamp(min=1)
