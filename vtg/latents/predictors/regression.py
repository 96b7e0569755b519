"""Deterministic prediction: one future, by a transformer that is trained on the error of what it says, as the predictor
of V-JEPA 2 is (Assran et al., 2025, arXiv 2506.09985)."""

import torch

from vtg.config.latent_settings import PredictorConfig
from vtg.latents.latents import Latents
from vtg.latents.predictors.drawing import Generators
from vtg.latents.predictors.future_predictor import FuturePredictor, end_s, last_latent
from vtg.latents.predictors.latent_transformer import LatentTransformer
from vtg.latents.predictors.prediction_errors import ERRORS, observed_mean


class RegressionPredictor(FuturePredictor):
    """Starts as the last latent of the context with `residual`, as the mean of the training latents without."""

    def __init__(self, settings: PredictorConfig, *, dim: int) -> None:
        super().__init__(dim)
        self.error, self.residual = ERRORS[settings.loss], settings.residual
        self.network = LatentTransformer(settings, dim=dim, channels=dim, joint=False)

    def forward(self, context: Latents, target_times_s: torch.Tensor) -> torch.Tensor:
        """(B, D, T2, H, W), normalised."""
        values, end = self.normalizer(context.values), end_s(context)
        last = last_latent(values, context.observed).expand(-1, -1, target_times_s.shape[1], -1, -1)
        encoded = self.network.encode(values, context.times_s - end, context.observed)
        # Tokens of the target differ in their times alone, and none attends to another time: whichever are asked for.
        asked = torch.ones_like(target_times_s, dtype=torch.bool)
        change = self.network.decode(last, target_times_s - end, asked, encoded)
        return last + change if self.residual else change

    def loss(self, context: Latents, target: Latents, generator: Generators = None) -> torch.Tensor:
        """See `FuturePredictor.loss`; nothing is drawn."""
        errors = self.error(self(context, target.times_s).float(), self.normalizer(target.values))
        return observed_mean(errors, target.observed)

    @torch.no_grad()
    def predict(
        self,
        context: Latents,
        target_times_s: torch.Tensor,
        generator: Generators = None,
        *,
        asked: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See `FuturePredictor.predict`; nothing is drawn, and no time changes what is said of another."""
        return self.normalizer.inverse(self(context, target_times_s))
