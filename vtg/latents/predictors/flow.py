"""Prediction by flow matching: futures drawn from what the context leaves open (Lipman et al., 2023).

The path from noise to latents is straight, x_t = (1 - t) noise + t latents: the conditional optimal transport of
Lipman et al., the rectified flow of Liu et al. (2023). A DiT (Peebles and Xie, 2023) that attends to the context learns
its velocity, latents - noise.
"""

import torch

from vtg.config.latent_settings import PredictorConfig
from vtg.latents.latents import Latents
from vtg.latents.predictors.errors import l2, observed_mean
from vtg.latents.predictors.future_predictor import FuturePredictor, end_s, last_latent
from vtg.latents.predictors.latent_transformer import LatentTransformer
from vtg.latents.predictors.positions import TimeEmbedding
from vtg.latents.predictors.samplers import SAMPLERS

Encoded = tuple[torch.Tensor, torch.Tensor]
"""A context as `LatentTransformer.encode` returns it."""


class FlowPredictor(FuturePredictor):
    """Draws futures; what it predicts is the mean of `samples` of them."""

    def __init__(self, settings: PredictorConfig, *, dim: int) -> None:
        super().__init__(dim)
        self.settings, self.sampler = settings, SAMPLERS[settings.sampler]
        self.network = LatentTransformer(settings, dim=dim, channels=2 * dim, joint=True)
        self.flow_time = TimeEmbedding(settings.width, shortest=0.02, longest=4.0)

    def velocity(
        self,
        x: torch.Tensor,
        at: torch.Tensor,
        *,
        last: torch.Tensor,
        ahead_s: torch.Tensor,
        observed: torch.Tensor,
        encoded: Encoded,
    ) -> torch.Tensor:
        """(B, D, T2, H, W), of a future `x` at flow times (B,)."""
        known = torch.cat([x, last.expand_as(x)], dim=1)
        return self.network.decode(known, ahead_s, observed, encoded, condition=self.flow_time(at)).float()

    def loss(self, context: Latents, target: Latents, generator: torch.Generator | None = None) -> torch.Tensor:
        """See `FuturePredictor.loss`: the squared error of the velocity, at one flow time of each clip."""
        encoded, last, end = self._read(context)
        latents = self.normalizer(target.values)
        if self.settings.residual:
            latents = latents - last
        device = latents.device
        noise = torch.randn(latents.shape, generator=generator, device=device)
        at = self._flow_times(len(latents), generator, device)
        dropped = torch.rand(len(latents), generator=generator, device=device) < self.settings.context_dropout
        # What padding holds must not reach the network either.
        latents = torch.where(target.observed[:, None, :, None, None], latents, 0.0)
        share = at[:, None, None, None, None]
        found = self.velocity(
            (1 - share) * noise + share * latents,
            at,
            last=torch.where(dropped[:, None, None, None, None], 0.0, last),
            ahead_s=target.times_s - end,
            observed=target.observed,
            encoded=(encoded[0], _kept(encoded[1], ~dropped)),
        )
        return observed_mean(l2(found, latents - noise), target.observed)

    def draw(self, context: Latents, target_times_s: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """(B, D, T2, H, W), one future of each clip, which follows from the noise, of the same shape, alone.

        With guidance w the velocity is u + w (v - u), of v with and u without the context (Ho and Salimans, 2022).
        """
        (tokens, there), last, end = self._read(context)
        ahead_s, asked = target_times_s - end, torch.ones_like(target_times_s, dtype=torch.bool)
        guidance = self.settings.guidance
        without = (tokens, _kept(there, torch.zeros(len(noise), dtype=torch.bool, device=noise.device)))

        def velocity(x: torch.Tensor, time: float) -> torch.Tensor:
            at = torch.full((len(x),), time, device=x.device)
            given = {"ahead_s": ahead_s, "observed": asked}
            with_context = self.velocity(x, at, last=last, encoded=(tokens, there), **given)
            if guidance == 1:
                return with_context
            alone = self.velocity(x, at, last=torch.zeros_like(last), encoded=without, **given)
            return alone + guidance * (with_context - alone)

        found = self.sampler(velocity, noise, self.settings.steps)
        return self.normalizer.inverse(found + last if self.settings.residual else found)

    @torch.no_grad()
    def predict(
        self, context: Latents, target_times_s: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """See `FuturePredictor.predict`. Clips draw their noise one after another, so that with one generator the same
        clips in other batches have the same futures."""
        device = context.values.device
        batch, dim, _, height, width = context.values.shape
        size = (self.settings.samples, dim, target_times_s.shape[1], height, width)
        source = device if generator is None else generator.device
        noise = torch.stack([torch.randn(size, generator=generator, device=source) for _ in range(batch)], dim=1)
        drawn = [self.draw(context, target_times_s, one) for one in noise.to(device)]
        return torch.stack(drawn).mean(dim=0)

    def _read(self, context: Latents) -> tuple[Encoded, torch.Tensor, torch.Tensor]:
        values, end = self.normalizer(context.values), end_s(context)
        encoded = self.network.encode(values, context.times_s - end, context.observed)
        return encoded, last_latent(values, context.observed), end

    def _flow_times(self, count: int, generator: torch.Generator | None, device: torch.device) -> torch.Tensor:
        if self.settings.flow_times == "uniform":
            return torch.rand(count, generator=generator, device=device)
        # Esser et al. (2024): the middle of the way, where most is to be decided, is drawn more often than its ends.
        return torch.randn(count, generator=generator, device=device).sigmoid()


def _kept(there: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """(B, T + 1) bool: which tokens of a context are attended to where only the clips `kept`, (B,), keep theirs."""
    return torch.cat([there[:, :-1] & kept[:, None], there[:, -1:]], dim=1)
