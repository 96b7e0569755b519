"""The vision tower of a Qwen-VL as an encoder: frames merged in pairs, patches as the language model reads them."""

from typing import Any

import torch
from torch import nn

from vtg.config.encoder_settings import EncoderConfig
from vtg.config.model_settings import ModelConfig
from vtg.data.encoding import frame_options, frames_as_they_are
from vtg.errors import ConfigError
from vtg.latents.encoders.encoder import Encoder, identity_of
from vtg.latents.encoders.pretrained import read_config
from vtg.models.families import FAMILIES, either, family_of
from vtg.models.families.family import ModelFamily
from vtg.models.loading import load_model, load_processor


class QwenTower(Encoder):
    """The tower and the merger to the language model's width; frames of one size, as clips are read for a Qwen-VL."""

    def __init__(self, tower: nn.Module, processor: Any, *, frame_size: int, identity: str) -> None:
        super().__init__(tower, identity=identity)
        options = frame_options(processor)
        self.processor = processor
        self.frames_per_latent = options["temporal_patch"]
        self.frame_size_px = self.processed_size = (frame_size, frame_size)
        self.grid = (frame_size // options["factor"], frame_size // options["factor"])
        self.dim = tower.config.out_hidden_size  # type: ignore[union-attr]

    def features(self, frames: torch.Tensor) -> torch.Tensor:
        """See `Encoder.features`."""
        read = self.processor.video_processor(
            videos=list(frames), return_tensors="pt", **frames_as_they_are(self.processor)
        )
        # The tower takes clips of any sizes as one row of patches, and the grid says whose they are.
        pixels = read["pixel_values_videos"].to(self.device, self.model.dtype)
        merged = self.model(pixels, grid_thw=read["video_grid_thw"].to(self.device), return_dict=True).pooler_output
        latents = merged.view(len(frames), -1, *self.grid, self.dim)
        return latents.permute(0, 4, 1, 2, 3)


def load_qwen_tower(settings: EncoderConfig, device: str | None = None) -> QwenTower:
    """The tower of a Qwen-VL model, checkpoint or run directory; adapters that reach it are in it.

    Raises:
        ConfigError: for a model of another family, or a frame size that is not of whole vision tokens.
    """
    read_config(settings)
    processor = load_processor(settings.path)
    family = family_of(processor)
    if not _has_grid(family):
        known = either(one for one in FAMILIES.values() if _has_grid(one))
        raise ConfigError(
            f"encoder.path = {settings.path!r}: the tower of a {family.title} makes no grid of frames in pairs; give a "
            f"{known}, or choose encoder=vjepa2 or dinov3"
        )
    factor, size = frame_options(processor)["factor"], settings.frame_size
    if size is None or size < factor or size % factor:
        raise ConfigError(
            f"encoder.frame_size = {'null' if size is None else size}: a vision token of {settings.path} is {factor} "
            f"pixels a side; set a multiple of it, such as encoder.frame_size={factor * 4}"
        )
    # The whole model and not its tower alone: adapters reach the tower by its names in it.
    model, _ = load_model(
        ModelConfig(path=settings.path, dtype=settings.dtype, patch_factor=factor), processor, device=device
    )
    tower = next(module for name, module in model.named_modules() if name.endswith(f".{family.tower[0]}"))
    identity = identity_of("qwen_tower", tower, {"frame_size": size, "processor": processor.video_processor.to_dict()})
    return QwenTower(tower, processor, frame_size=size, identity=identity)


def _has_grid(family: ModelFamily) -> bool:
    return family.vision_inputs == ("pixel_values_videos", "video_grid_thw")
