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


def crps(drawn: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """(B, T, H, W): the continuous ranked probability score of futures, (S, B, D, T, H, W), as the mean over channels.

    E |x - true| - E |x - x'| / 2 of two futures x and x' (Gneiting and Raftery, 2007), by all pairs of different ones,
    so that its mean does not depend on how many are drawn (Ferro, 2014). Least where futures are spread as the truth
    is, while the errors of a point are least for one answer in between. Of one future it is the `l1`.
    """
    count = len(drawn)
    far = (drawn - true).abs().mean(dim=0)
    if count > 1:
        # The sum of |x - x'| over pairs: in order, every one is subtracted by those above and adds those below.
        ranks = torch.arange(count, device=drawn.device, dtype=drawn.dtype) * 2 - (count - 1)
        far = far - torch.tensordot(ranks, drawn.sort(dim=0).values, dims=1) / (count * (count - 1))
    return far.mean(dim=1)


def observed_mean(errors: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """The mean of (B, T, H, W) errors over the latents that are observed, (B, T) bool; 0 where none is.

    Errors of the others are not in it, be they no numbers.
    """
    # Not a product with 0, which would keep an error that is no number.
    kept = torch.where(observed[:, :, None, None], errors, 0.0)
    places = errors.shape[2] * errors.shape[3]
    return kept.sum() / (observed.sum() * places).clamp(min=1)
