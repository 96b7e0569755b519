"""The network under both predictors: an encoder of the context, and a decoder of the target that attends to it."""

import torch
from torch import nn
from torch.nn import functional

from vtg.config.latent_settings import PredictorConfig
from vtg.latents.predictors.attention_blocks import Block, Over
from vtg.latents.predictors.positions import TimeEmbedding, grid_features


class LatentTransformer(nn.Module):
    """Tokens of the target, (B, C, T2, H, W), and normalised context latents to (B, D, T2, H, W), zero at the start.

    Args:
        dim: D, channels of the latents.
        channels: C, of what is known of each target token.
        joint: target tokens of different times attend to each other, which a sample of the whole future needs. Without,
            what is predicted for a time does not depend on which others are asked for.
    """

    def __init__(self, settings: PredictorConfig, *, dim: int, channels: int, joint: bool) -> None:
        super().__init__()
        width, heads, is_full = settings.width, settings.heads, settings.attention == "full"
        within: tuple[Over, ...] = ("space_time",) if is_full else ("space", "time")
        across: Over = "space_time" if is_full else "time"
        self.from_context, self.from_target = nn.Linear(dim, width), nn.Linear(channels, width)
        self.horizon = TimeEmbedding(width)
        # Stands beside the context: what is left to attend to where the context is dropped.
        self.nothing = nn.Parameter(torch.randn(width) * 0.02)
        self.encoder = nn.ModuleList(Block(width, heads, within=within) for _ in range(settings.depth))
        self.decoder = nn.ModuleList(
            Block(width, heads, within=within if joint else ("space",), across=across) for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, dim)
        # What is said at first is 0: with `residual` the last latent, without the mean of all.
        for layer in (self.modulation, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def encode(
        self, values: torch.Tensor, past_s: torch.Tensor, observed: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens of a context, (B, T + 1, S, W), and (B, T + 1) bool, which of them are there; the last always is.

        Args:
            values: (B, D, T, H, W), normalised.
            past_s: (B, T), their times relative to the context's end, 0 or less.
            observed: (B, T) bool, at least one of each clip.
        """
        condition = self.horizon(past_s)
        tokens = self._placed(self.from_context(_tokens(values)), condition, values.shape[-2:])
        for block in self.encoder:
            tokens = block(tokens, condition, observed)
        nothing = self.nothing.expand(len(tokens), 1, tokens.shape[2], -1)
        return torch.cat([tokens, nothing], dim=1), functional.pad(observed, (0, 1), value=True)

    def decode(
        self,
        known: torch.Tensor,
        ahead_s: torch.Tensor,
        observed: torch.Tensor,
        context: tuple[torch.Tensor, torch.Tensor],
        *,
        condition: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, D, T2, H, W).

        Args:
            known: (B, C, T2, H, W).
            ahead_s: (B, T2), times relative to the context's end.
            observed: (B, T2) bool, which target tokens others attend to.
            context: of `encode`.
            condition: (B, W), of each clip, beside the times.
        """
        # Attention over nothing is no number; a clip without any target has no loss either.
        observed = observed | ~observed.any(dim=1, keepdim=True)
        times = self.horizon(ahead_s)
        tokens = self._placed(self.from_target(_tokens(known)), times, known.shape[-2:])
        given = times if condition is None else times + condition[:, None]
        for block in self.decoder:
            tokens = block(tokens, given, observed, context)
        shift, scale = self.modulation(functional.silu(given)).unsqueeze(2).chunk(2, dim=-1)
        found = self.out(self.norm(tokens) * (1 + scale) + shift)
        return found.unflatten(2, known.shape[-2:]).movedim(-1, 1)

    def _placed(self, tokens: torch.Tensor, times: torch.Tensor, grid: torch.Size) -> torch.Tensor:
        places = grid_features((grid[0], grid[1]), tokens.shape[-1], tokens.device)
        return tokens + times.unsqueeze(2) + places.to(tokens.dtype)


def _tokens(values: torch.Tensor) -> torch.Tensor:
    """(B, T, H * W, C) of (B, C, T, H, W)."""
    return values.movedim(1, -1).flatten(2, 3)
