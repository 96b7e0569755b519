"""Prediction by flow matching: futures drawn from what the context leaves open (Lipman et al., 2023, arXiv 2210.02747).

The path from noise to latents is straight, x_t = (1 - t) noise + t latents: the conditional optimal transport of
Lipman et al., the rectified flow of Liu et al. (2023, arXiv 2209.03003). A DiT (Peebles and Xie, 2023, arXiv
2212.09748) that attends to the context says the latents, from which the velocity follows, (latents - x) / (1 - t). To
say the velocity itself, or the noise, it would have to be wider than latents have channels: noise is of all dimensions,
latents are of few (Li and He, 2025, arXiv 2511.13720).
"""

from collections.abc import Callable

import torch

from vtg.config.latent_settings import PredictorConfig
from vtg.latents.latents import Latents
from vtg.latents.predictors.drawing import Generators, drawn, even, normal_steps
from vtg.latents.predictors.future_predictor import FuturePredictor, end_s, last_latent
from vtg.latents.predictors.latent_transformer import LatentTransformer
from vtg.latents.predictors.positions import TimeEmbedding
from vtg.latents.predictors.prediction_errors import l2, observed_mean
from vtg.latents.predictors.samplers import SAMPLERS

Encoded = tuple[torch.Tensor, torch.Tensor]
"""A context as `LatentTransformer.encode` returns it."""

# Periods of flow times, which go from 0 to 1.
SHORTEST_FLOW_TIME, LONGEST_FLOW_TIME = 0.02, 4.0


class FlowPredictor(FuturePredictor):
    """Draws futures. Its prediction is their mean, which takes no sampler: see `predict`."""

    def __init__(self, settings: PredictorConfig, *, dim: int) -> None:
        super().__init__(dim)
        self.settings, self.sampler = settings, SAMPLERS[settings.sampler]
        self.network = LatentTransformer(settings, dim=dim, channels=2 * dim, joint=True)
        self.flow_time = TimeEmbedding(settings.width, shortest=SHORTEST_FLOW_TIME, longest=LONGEST_FLOW_TIME)

    def loss(self, context: Latents, target: Latents, generator: Generators = None) -> torch.Tensor:
        """See `FuturePredictor.loss`: the squared error of the latents that are said, at one flow time of each clip.

        That of the velocity is the same times 1 / (1 - t)²: it would be of the end of the path alone, where all but
        details is decided.
        """
        encoded, last, end = self._read(context)
        latents = self.normalizer(target.values)
        if self.settings.residual:
            latents = latents - last
        clips, dim, steps, *grid = latents.shape
        # One of each clip, since its latents are drawn together.
        at = drawn(self._flow_time, clips, generator, latents.device)
        dropped = drawn(even, clips, generator, latents.device) < self.settings.context_dropout
        noise = drawn(lambda one: normal_steps((dim, *grid), steps, one), clips, generator, latents.device)
        # What padding holds must not reach the network either.
        latents = torch.where(target.observed[:, None, :, None, None], latents, 0.0)
        share = at[:, None, None, None, None]
        said = self._latents(
            (1 - share) * noise + share * latents,
            at,
            last=torch.where(dropped[:, None, None, None, None], 0.0, last),
            ahead_s=target.times_s - end,
            asked=target.observed,
            encoded=(encoded[0], _kept(encoded[1], ~dropped)),
        )
        return observed_mean(l2(said, latents), target.observed)

    @torch.no_grad()
    def predict(
        self,
        context: Latents,
        target_times_s: torch.Tensor,
        generator: Generators = None,
        *,
        asked: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See `FuturePredictor.predict`: what the network says at flow time 0. There x is noise alone, of which the
        latents are independent, so that their mean given x is their mean; what the network makes of the noise all the
        same is averaged over `samples` draws."""
        says, last = self._denoiser(context, target_times_s, asked)
        noise = self._noise(context, target_times_s, generator, count=self.settings.samples)
        return self._restored(torch.stack([says(one, 0.0) for one in noise]).mean(dim=0), last)

    @torch.no_grad()
    def futures(
        self,
        context: Latents,
        target_times_s: torch.Tensor,
        generator: Generators = None,
        *,
        count: int,
        asked: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See `FuturePredictor.futures`."""
        noise = self._noise(context, target_times_s, generator, count=count)
        return self.from_noise(context, target_times_s, noise, asked=asked)

    @torch.no_grad()
    def from_noise(
        self, context: Latents, target_times_s: torch.Tensor, noise: torch.Tensor, *, asked: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The futures that follow from noise, both (S, B, D, T2, H, W)."""
        says, last = self._denoiser(context, target_times_s, asked)

        def velocity(x: torch.Tensor, time: float) -> torch.Tensor:
            return (says(x, time) - x) / (1 - time)

        # One after another: no more memory than for one.
        return torch.stack(
            [self._restored(self.sampler(velocity, one, self.settings.steps), last) for one in noise.float()]
        )

    def _denoiser(
        self, context: Latents, target_times_s: torch.Tensor, asked: torch.Tensor | None
    ) -> tuple[Callable[[torch.Tensor, float], torch.Tensor], torch.Tensor]:
        """says(x, flow time) → latents, as they are trained, and the last normalised latent of the context.

        With guidance w they are u + w (v - u), of v with and u without the context (Ho and Salimans, 2022, arXiv
        2207.12598): so is then the velocity.
        """
        (tokens, there), last, end = self._read(context)
        guidance = self.settings.guidance
        asked = torch.ones_like(target_times_s, dtype=torch.bool) if asked is None else asked
        nowhere = _kept(there, torch.zeros(len(there), dtype=torch.bool, device=there.device))

        def says(x: torch.Tensor, time: float) -> torch.Tensor:
            at = torch.full((len(x),), time, device=x.device)
            given = {"ahead_s": target_times_s - end, "asked": asked}
            within = self._latents(x, at, last=last, encoded=(tokens, there), **given)
            if guidance == 1:
                return within
            without = self._latents(x, at, last=torch.zeros_like(last), encoded=(tokens, nowhere), **given)
            return without + guidance * (within - without)

        return says, last

    def _latents(
        self,
        x: torch.Tensor,
        at: torch.Tensor,
        *,
        last: torch.Tensor,
        ahead_s: torch.Tensor,
        asked: torch.Tensor,
        encoded: Encoded,
    ) -> torch.Tensor:
        """(B, D, T2, H, W): the mean of the latents from which points `x` of the path at flow times (B,) may come."""
        known = torch.cat([x, last.expand_as(x)], dim=1)
        return self.network.decode(known, ahead_s, asked, encoded, condition=self.flow_time(at)).float()

    def _read(self, context: Latents) -> tuple[Encoded, torch.Tensor, torch.Tensor]:
        values, end = self.normalizer(context.values), end_s(context)
        encoded = self.network.encode(values, context.times_s - end, context.observed)
        return encoded, last_latent(values, context.observed), end

    def _restored(self, found: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        return self.normalizer.inverse(found + last if self.settings.residual else found)

    def _noise(
        self, context: Latents, target_times_s: torch.Tensor, generator: Generators, *, count: int
    ) -> torch.Tensor:
        """(count, B, D, T2, H, W)."""
        clips, dim, _, *grid = context.values.shape
        size, steps = (count, dim, *grid), target_times_s.shape[1]
        noise = drawn(lambda one: normal_steps(size, steps, one), clips, generator, context.values.device)
        return noise.movedim(0, 1)

    def _flow_time(self, generator: torch.Generator | None) -> torch.Tensor:
        if self.settings.flow_times == "uniform":
            return even(generator)
        # Esser et al. (2024, arXiv 2403.03206): the middle of the way is drawn more often than its ends.
        return normal_steps((1, 1), 1, generator).sigmoid().squeeze()


def _kept(there: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """(B, T + 1) bool: which tokens of a context are attended to where only the clips `kept`, (B,), keep theirs."""
    return torch.cat([there[:, :-1] & kept[:, None], there[:, -1:]], dim=1)
