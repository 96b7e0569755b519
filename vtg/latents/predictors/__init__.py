"""Predictors of future latents, each a file of this folder; `make_predictor` makes the one that settings ask for."""

from collections.abc import Callable

from vtg.config.latent_rules import check_predictor
from vtg.config.latent_settings import PredictorConfig
from vtg.latents.predictors.flow import FlowPredictor
from vtg.latents.predictors.future_predictor import FuturePredictor
from vtg.latents.predictors.regression import RegressionPredictor

PREDICTORS: dict[str, Callable[..., FuturePredictor]] = {"regression": RegressionPredictor, "flow": FlowPredictor}
"""The values of `predictor.kind`: kind(settings, dim=D)."""


def make_predictor(settings: PredictorConfig, *, dim: int) -> FuturePredictor:
    """A predictor of latents with `dim` channels, on any grid; its weights are drawn by torch's own generator.

    Raises:
        ConfigError: settings that cannot be.
    """
    check_predictor(settings)
    return PREDICTORS[settings.kind](settings, dim=dim)
