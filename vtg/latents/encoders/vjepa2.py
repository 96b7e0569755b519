"""V-JEPA 2 as an encoder: tubelets of two frames, cropped and normalised by the checkpoint's own video processor.

The network behind the encoder that predicts masked patches is left out: latents are the encoder's. See Assran et al.,
"V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning", arXiv 2506.09985.
"""

from typing import Any

import torch
from torch import nn
from transformers import AutoVideoProcessor

from vtg.config.encoder_settings import EncoderConfig
from vtg.errors import ConfigError
from vtg.latents.encoders.encoder import Encoder, identity_of
from vtg.latents.encoders.pretrained import grid_of, load_processor_of, load_weights, one_size, read_config


class VJEPA2(Encoder):
    """The encoder of a V-JEPA 2; frames of any size, which its processor resizes and crops in the middle."""

    frame_size_px = None

    def __init__(self, encoder: nn.Module, processor: Any, *, grid: tuple[int, int], identity: str) -> None:
        super().__init__(encoder, identity=identity)
        config: Any = encoder.config
        self.processor = processor
        self.frames_per_latent = config.tubelet_size
        self.processed_size = (config.crop_size, config.crop_size)
        self.dim, self.grid = config.hidden_size, grid

    def features(self, frames: torch.Tensor) -> torch.Tensor:
        """See `Encoder.features`."""
        # On the device as bytes, so that the processor works there and a quarter of the data moves.
        pixels = processed(self.processor, frames.to(self.device))
        tokens = self.model(pixel_values_videos=pixels.to(self.dtype)).last_hidden_state
        return tokens.view(len(frames), -1, *self.grid, self.dim).permute(0, 4, 1, 2, 3)


def processed(processor: Any, frames: torch.Tensor) -> torch.Tensor:
    """(B, T, 3, height, width) uint8 → the same frames as the model reads them, (B, T, 3, crop, crop)."""
    # Frames are chosen already: clips have theirs at the times that the settings ask for.
    return processor(videos=list(frames), do_sample_frames=False, return_tensors="pt")["pixel_values_videos"]


def load_vjepa2(settings: EncoderConfig, device: str | None = None) -> VJEPA2:
    """The encoder of a V-JEPA 2: a hub name, or a folder as save_pretrained writes it.

    Raises:
        ConfigError: for another kind of model, and for a frame size, or a processor, that is not the model's.
    """
    config = read_config(settings)
    processor = load_processor_of(settings, AutoVideoProcessor)
    size, crop = one_size(settings, lambda frames: processed(processor, frames[None])), config.crop_size
    # Places of patches are counted in rows of this size: others would be seen in wrong places, without an error.
    if size != (crop, crop):
        raise ConfigError(
            f"encoder.path = {settings.path!r}: its processor makes frames of {size[0]}x{size[1]} pixels (height x "
            f"width), but the model reads {crop}x{crop} (crop_size in config.json); copy "
            "video_preprocessor_config.json of the checkpoint that it was made from"
        )
    if settings.frame_size not in (None, crop):
        raise ConfigError(
            f"encoder.frame_size = {settings.frame_size}: {settings.path} reads frames of {crop} pixels a side alone; "
            "set encoder.frame_size=null, or give a checkpoint of that size"
        )
    grid = grid_of(settings, size, config.patch_size)
    # Read as a whole, since names in the file are those of the whole model; its predictor is dropped with it.
    model: Any = load_weights(settings, device)
    identity = identity_of("vjepa2", model.encoder, {"frame_size": crop, "processor": processor.to_dict()})
    return VJEPA2(model.encoder, processor, grid=grid, identity=identity)
