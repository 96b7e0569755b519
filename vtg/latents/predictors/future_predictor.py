"""What all predictors of future latents have in common."""

from abc import ABC, abstractmethod

import torch
from torch import nn

from vtg.latents.latents import Latents
from vtg.latents.predictors.drawing import Generators
from vtg.latents.predictors.normalization import LatentNormalizer


class FuturePredictor(nn.Module, ABC):
    """A network that predicts latents at given times from those before. Times are seconds of the clip; it reads them
    relative to the context's end, so that clips of different rates, and any horizon, go together.

    Attributes:
        normalizer: measured on training latents before training; it is part of the weights.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.normalizer = LatentNormalizer(dim)

    @abstractmethod
    def loss(self, context: Latents, target: Latents, generator: Generators = None) -> torch.Tensor:
        """A scalar: what training minimises, over the observed latents of the target.

        Args:
            context: of every clip at least one latent observed.
            generator: of what is drawn in training, where anything is: see `Generators`.
        """

    @abstractmethod
    def predict(
        self,
        context: Latents,
        target_times_s: torch.Tensor,
        generator: Generators = None,
        *,
        asked: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, D, T2, H, W) float32, the encoder's latents at times (B, T2) in seconds; without gradients.

        Where several futures are possible it is one in between, of the least error that the predictor is trained on.

        Args:
            asked: (B, T2) bool, which of the times are asked for: what is said of those does not depend on the others.
                None: all.
        """

    def futures(
        self,
        context: Latents,
        target_times_s: torch.Tensor,
        generator: Generators = None,
        *,
        count: int,
        asked: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(S, B, D, T2, H, W) float32: S = `count` futures of every clip, each a possible one as a whole; one, which is
        the prediction, of a predictor that knows no other."""
        return self.predict(context, target_times_s, generator, asked=asked)[None]


def last_latent(values: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """(B, D, 1, H, W): of (B, D, T, H, W) latents the last one of each clip that is observed, (B, T) bool."""
    steps = torch.arange(observed.shape[1], device=observed.device)
    at = torch.where(observed, steps, -1).amax(dim=1).clamp(min=0)
    return values[torch.arange(len(values), device=values.device), :, at].unsqueeze(2)


def end_s(latents: Latents) -> torch.Tensor:
    """(B, 1) float64: the time of the last observed latent of each clip."""
    return latents.times_s.masked_fill(~latents.observed, -torch.inf).amax(dim=1, keepdim=True)
