"""An encoder and the predictor of its latents, as one module: what is trained, saved and loaded."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from vtg.latents.encoders.encoder import Encoder
from vtg.latents.future_clips import FoundFuture, FutureClip, FutureLatents, FutureReader
from vtg.latents.predictors.future_predictor import FuturePredictor


class FutureModel(nn.Module):
    """Predicts the latents of an encoder. Its state is the predictor's, and what of the encoder is trained: a frozen
    encoder is named beside it (`latent_run`), not copied.
    """

    def __init__(self, encoder: Encoder, predictor: FuturePredictor) -> None:
        super().__init__()
        self.encoder, self.predictor = encoder, predictor
        # Hooks and no override: DDP, the Trainer and safetensors all take the state dict of the module that they hold.
        self.register_state_dict_post_hook(_without_frozen)
        self.register_load_state_dict_post_hook(_frozen_is_not_missing)

    def forward(self, found: Sequence[FoundFuture], reader: FutureReader, seeds: Sequence[int]) -> torch.Tensor:
        """The mean loss over the observed latents of the clips' targets; without clips 0, by the same computation.

        Args:
            seeds: of what is drawn for each clip.
        """
        # Parameters without a gradient would leave the other ranks waiting for it.
        if not found:
            latents = FutureLatents.encoded(self.encoder, [FutureClip.blank(self.encoder)]).unobserved()
            return self.predictor.loss(latents.context, latents.target, generators([0]))
        latents = self.encoded(found, reader)
        return self.predictor.loss(latents.context, latents.target, generators(seeds))

    def encoded(self, found: Sequence[FoundFuture], reader: FutureReader) -> FutureLatents:
        """The latents of clips that were found, on the encoder's device; those that are new are kept."""
        # New clips go through the encoder as one batch, wherever they stand among those of the cache.
        parts = [None if one.latents is None else one.latents.to(self.encoder.device) for one in found]
        missing = [at for at, part in enumerate(parts) if part is None]
        if missing:
            new = FutureLatents.encoded(self.encoder, [clip for at in missing if (clip := found[at].clip) is not None])
            for row, at in enumerate(missing):
                parts[at] = part = new.clips(slice(row, row + 1))
                if (key := found[at].key) is not None:
                    reader.keep(key, part)
        return FutureLatents.joined([part for part in parts if part is not None])


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One of each clip: what is drawn for it does not depend on which others are beside it."""
    # On the CPU, so that a GPU draws the same.
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _frozen(model: FutureModel) -> set[str]:
    """Keys of what is not the model's own: parameters of the encoder that are not trained, and its buffers."""
    encoder = model.encoder
    # Buffers as well: what is computed from a config would only fail to load into another version of it.
    names = [name for name, parameter in encoder.named_parameters() if not parameter.requires_grad]
    return {f"encoder.{name}" for name in (*names, *(name for name, _ in encoder.named_buffers()))}


def _without_frozen(model: FutureModel, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name in _frozen(model):
        state.pop(f"{prefix}{name}", None)


def _frozen_is_not_missing(model: FutureModel, keys: Any) -> None:
    frozen = _frozen(model)
    # In place: what the hook returns is not looked at.
    keys.missing_keys[:] = [name for name in keys.missing_keys if name not in frozen]
