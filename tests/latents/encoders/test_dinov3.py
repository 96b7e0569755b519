"""DINOv3 as an encoder: every frame by itself, its patches alone, as processor and model make them."""

import pytest
import torch
from transformers import (
    AutoImageProcessor,
    AutoModel,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
    DINOv3ViTImageProcessor,
)

from vtg.config.encoder_settings import EncoderConfig
from vtg.latents.encoders import load_encoder
from vtg.latents.encoders.encoder import Encoder

UNEVEN_S = (0.0, 0.4, 1.3)


def load(folder, frame_size: int | None = None) -> Encoder:
    return load_encoder(EncoderConfig(name="dinov3", path=str(folder), frame_size=frame_size), device="cpu")


@pytest.fixture(scope="module")
def convnext_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("convnext")
    torch.manual_seed(0)
    DINOv3ConvNextModel(DINOv3ConvNextConfig(hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1])).save_pretrained(folder)
    DINOv3ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("kind", "leading"), [("dinov3_dir", 1 + 4), ("convnext_dir", 1)])
def test_latents_are_the_patch_tokens_of_the_plain_model(kind, leading, request, make_clip):
    folder = request.getfixturevalue(kind)
    clip = make_clip(UNEVEN_S, size=(40, 70))
    inputs = AutoImageProcessor.from_pretrained(folder)(images=list(torch.from_numpy(clip.frames)), return_tensors="pt")
    with torch.no_grad():
        plain = AutoModel.from_pretrained(folder)(**inputs).last_hidden_state
    encoder = load(folder)
    latents = encoder.encode([clip])
    assert latents.values.shape == (1, encoder.dim, 3, 2, 2)
    torch.testing.assert_close(latents.values[0].flatten(2).permute(1, 2, 0), plain[:, leading:])


def test_every_frame_has_a_latent_at_its_own_time(dinov3_dir, make_clip):
    encoder, clip = load(dinov3_dir), make_clip(UNEVEN_S)
    latents = encoder.encode([clip])
    assert latents.times_s[0].tolist() == list(UNEVEN_S)
    clip.frames[1] ^= 255
    changed = (encoder.encode([clip]).values - latents.values).abs().amax(dim=(0, 1, 3, 4)) > 1e-4
    assert changed.tolist() == [False, True, False]


def test_frames_of_another_size_make_a_finer_grid(dinov3_dir, make_clip):
    encoder = load(dinov3_dir, frame_size=48)
    assert encoder.encode([make_clip(UNEVEN_S)]).values.shape == (1, 32, 3, 3, 3)
    assert encoder.identity != load(dinov3_dir).identity
