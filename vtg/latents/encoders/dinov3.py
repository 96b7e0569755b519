"""DINOv3 as an encoder: every frame by itself, as the checkpoint's own image processor makes it.

Latents are the patch tokens after the last norm; the class token and the registers, which have no place, are left out.
See Siméoni et al., "DINOv3", arXiv 2508.10104.
"""

from typing import Any

import torch
from torch import nn
from transformers import AutoImageProcessor

from vtg.config.encoder_settings import EncoderConfig
from vtg.errors import ConfigError
from vtg.latents.encoders.encoder import Encoder, identity_of
from vtg.latents.encoders.pretrained import grid_of, load_processor_of, load_weights, one_size, read_config


class DINOv3(Encoder):
    """A ViT or ConvNeXt of DINOv3; frames of any size, which its processor resizes."""

    frame_size_px = None
    frames_per_latent = 1

    def __init__(
        self,
        model: nn.Module,
        processor: Any,
        *,
        size: tuple[int, int],
        grid: tuple[int, int],
        dim: int,
        identity: str,
    ) -> None:
        super().__init__(model, identity=identity)
        self.processor, self.processed_size, self.grid, self.dim = processor, size, grid, dim

    def features(self, frames: torch.Tensor) -> torch.Tensor:
        """See `Encoder.features`."""
        # Frames know nothing of one another, so those of all clips are one batch.
        clips, count = frames.shape[:2]
        pixels = processed(self.processor, frames.flatten(0, 1).to(self.device))
        tokens = self.model(pixels.to(self.dtype)).last_hidden_state
        places = self.grid[0] * self.grid[1]
        # What has no place comes first: the class token, and in a ViT the registers.
        return tokens[:, -places:].view(clips, count, *self.grid, self.dim).permute(0, 4, 1, 2, 3)


def processed(processor: Any, frames: torch.Tensor) -> torch.Tensor:
    """(N, 3, height, width) uint8 → the same frames as the model reads them."""
    return processor(images=list(frames), return_tensors="pt")["pixel_values"]


def load_dinov3(settings: EncoderConfig, device: str | None = None) -> DINOv3:
    """A DINOv3: a hub name, or a folder as save_pretrained writes it.

    Raises:
        ConfigError: for another kind of model, and for frames that are not of whole patches.
    """
    config, wanted = read_config(settings), settings.frame_size
    # Its positions are shares of the frame's sides, so it reads frames of any size of whole patches.
    options = {} if wanted is None else {"size": {"height": wanted, "width": wanted}}
    processor = load_processor_of(settings, AutoImageProcessor, **options)
    size = one_size(settings, lambda frames: processed(processor, frames))
    if wanted is not None and size != (wanted, wanted):
        raise ConfigError(
            f"encoder.frame_size = {wanted}: the processor of {settings.path} makes frames of {size[0]}x{size[1]} "
            "pixels (height x width) whatever it is told; set encoder.frame_size=null"
        )
    patch, dim = _patch_and_width(config)
    grid = grid_of(settings, size, patch)
    model = load_weights(settings, device)
    identity = identity_of("dinov3", model, {"frame_size": size, "processor": processor.to_dict()})
    return DINOv3(model, processor, size=size, grid=grid, dim=dim, identity=identity)


def _patch_and_width(config: Any) -> tuple[int, int]:
    """Pixels a side of what one latent sees, and the width of latents."""
    if config.model_type == "dinov3_vit":
        return config.patch_size, config.hidden_size
    # A ConvNeXt: its stem makes one place of four pixels a side, and each later stage one of two places.
    return 4 * 2 ** (len(config.hidden_sizes) - 1), config.hidden_sizes[-1]
