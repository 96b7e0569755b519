"""An encoder and the predictor of its latents, as one module: what is trained, saved and loaded."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from vtg.latents.encoders.encoder import Encoder
from vtg.latents.future_clips import FutureClip, FutureLatents, blank_clip, unobserved
from vtg.latents.predictors.future_predictor import FuturePredictor


class FutureModel(nn.Module):
    """Predicts the latents of an encoder. Its state is the predictor's, and what of the encoder is trained: a frozen
    encoder is named beside it (`latent_run`), not copied.
    """

    def __init__(self, encoder: Encoder, predictor: FuturePredictor) -> None:
        super().__init__()
        self.encoder, self.predictor = encoder, predictor
        self.register_state_dict_post_hook(_without_frozen)
        self.register_load_state_dict_post_hook(_frozen_is_not_missing)

    def forward(self, clips: Sequence[FutureClip]) -> torch.Tensor:
        """The mean loss over the observed latents of the clips' targets; without clips 0, by the same computation."""
        latents = FutureLatents.encoded(self.encoder, list(clips) or [blank_clip(self.encoder)])
        target = latents.target if clips else unobserved(latents.target)
        return self.predictor.loss(latents.context, target)

    @torch.no_grad()
    def predicted(self, clips: Sequence[FutureClip]) -> tuple[FutureLatents, torch.Tensor]:
        """The latents of clips, and their targets as predicted, (B, D, T2, H, W) float32."""
        latents = FutureLatents.encoded(self.encoder, list(clips))
        return latents, self.predictor.predict(latents.context, latents.target.times_s)


def _frozen(model: FutureModel) -> set[str]:
    """Keys of what is not the model's own: parameters of the encoder that are not trained, and its buffers."""
    encoder = model.encoder
    names = [name for name, parameter in encoder.named_parameters() if not parameter.requires_grad]
    return {f"encoder.{name}" for name in (*names, *(name for name, _ in encoder.named_buffers()))}


def _without_frozen(model: FutureModel, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name in _frozen(model):
        state.pop(f"{prefix}{name}", None)


def _frozen_is_not_missing(model: FutureModel, keys: Any) -> None:
    frozen = _frozen(model)
    keys.missing_keys[:] = [name for name in keys.missing_keys if name not in frozen]
