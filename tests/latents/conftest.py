"""Encoders, small enough for every test to use them."""

from pathlib import Path

import pytest
import torch
from transformers import (
    DINOv3ViTConfig,
    DINOv3ViTImageProcessor,
    DINOv3ViTModel,
    VJEPA2Config,
    VJEPA2Model,
    VJEPA2VideoProcessor,
)

from vtg.config.encoder_settings import EncoderConfig
from vtg.latents.encoders import load_encoder
from vtg.latents.encoders.encoder import Encoder


@pytest.fixture(scope="session")
def qwen_tower() -> Encoder:
    """The tower of the tiny model that ships with the package. Shared: leave it as it is."""
    return load_encoder(EncoderConfig(), device="cpu")


@pytest.fixture(scope="session")
def vjepa2_dir(tmp_path_factory) -> Path:
    """A V-JEPA 2 of random weights and its processor: frames of 32 pixels, patches of 8. Shared: leave it as it is."""
    torch.manual_seed(0)
    config = VJEPA2Config(
        patch_size=8,
        crop_size=32,
        frames_per_clip=8,
        hidden_size=48,
        num_attention_heads=2,
        num_hidden_layers=2,
        mlp_ratio=2,
        pred_hidden_size=48,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
    )
    return saved(tmp_path_factory.mktemp("vjepa2"), VJEPA2Model(config), VJEPA2VideoProcessor(crop_size=32))


@pytest.fixture(scope="session")
def dinov3_dir(tmp_path_factory) -> Path:
    """A DINOv3 of random weights and its processor: frames of 32 pixels, patches of 16. Shared: leave it as it is."""
    torch.manual_seed(0)
    config = DINOv3ViTConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_register_tokens=4,
        image_size=32,
    )
    processor = DINOv3ViTImageProcessor(size={"height": 32, "width": 32})
    return saved(tmp_path_factory.mktemp("dinov3"), DINOv3ViTModel(config), processor)


def saved(folder: Path, *parts) -> Path:
    for part in parts:
        part.save_pretrained(folder)
    return folder
