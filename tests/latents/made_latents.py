"""Latents of a known future, and predictors of them that are small enough for every test."""

from typing import Any

import torch

from vtg.config.latent_settings import PredictorConfig
from vtg.latents.latents import Latents
from vtg.latents.predictors import make_predictor
from vtg.latents.predictors.future_predictor import FuturePredictor

DIM, GRID = 3, (2, 3)

SETTINGS = [
    {"kind": kind, "attention": attention} for kind in ("regression", "flow") for attention in ("full", "factorised")
]
"""Of each kind of network."""


def random_latents(clips: int, steps: int, *, seed: int = 0, start_s: float = 0.0, step_s: float = 0.5) -> Latents:
    """All observed, at even times."""
    values = torch.randn(clips, DIM, steps, *GRID, generator=torch.Generator().manual_seed(seed))
    times_s = start_s + step_s * torch.arange(steps, dtype=torch.float64).expand(clips, -1)
    return Latents(values, times_s, torch.ones(clips, steps, dtype=torch.bool))


def hidden(latents: Latents, *steps: int, clip: int = 0, value: float = 1e3) -> Latents:
    """The same with steps of a clip that are not observed and hold anything."""
    values, observed = latents.values.clone(), latents.observed.clone()
    values[clip, :, list(steps)] = value
    observed[clip, list(steps)] = False
    return Latents(values, latents.times_s, observed)


def small_predictor(*, seed: int = 0, **settings: Any) -> FuturePredictor:
    """A predictor that says something: its last layers, which start at zero, are random too."""
    torch.manual_seed(seed)
    small: dict[str, Any] = {"width": 16, "heads": 2, "depth": 1}
    predictor = make_predictor(PredictorConfig(**small | settings), dim=DIM)
    with torch.no_grad():
        for parameter in predictor.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return predictor.eval()


def drawing(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
