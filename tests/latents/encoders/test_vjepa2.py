"""V-JEPA 2 as an encoder: exactly what its processor and encoder make of a clip, on a grid, with true times."""

import pytest
import torch
from transformers import AutoVideoProcessor, VJEPA2Model

from vtg.config.encoder_settings import EncoderConfig
from vtg.latents.encoders import load_encoder
from vtg.latents.encoders.encoder import Encoder
from vtg.latents.encoders.encoder_parts import trained_parameters

UNEVEN_S = (0.0, 0.4, 1.3, 1.5, 4.0)


def load(folder, **settings) -> Encoder:
    return load_encoder(EncoderConfig(name="vjepa2", path=str(folder), frame_size=None, **settings), device="cpu")


@pytest.fixture(scope="module")
def encoder(vjepa2_dir) -> Encoder:
    return load(vjepa2_dir)


def test_latents_are_what_the_plain_model_makes_of_frames_of_any_size(encoder, vjepa2_dir, make_clip):
    clip = make_clip(UNEVEN_S[:4], size=(40, 70))
    processor = AutoVideoProcessor.from_pretrained(vjepa2_dir)
    inputs = processor(videos=[torch.from_numpy(clip.frames)], return_tensors="pt")
    with torch.no_grad():
        plain = VJEPA2Model.from_pretrained(vjepa2_dir).get_vision_features(**inputs)
    latents = encoder.encode([clip])
    assert (encoder.processed_size, encoder.grid, encoder.dim) == ((32, 32), (4, 4), 48)
    assert latents.values.shape == (1, 48, 2, 4, 4)
    torch.testing.assert_close(latents.values.flatten(2).transpose(1, 2), plain)


def test_a_place_of_the_grid_is_that_place_of_the_frame(vjepa2_dir, make_clip):
    encoder = load(vjepa2_dir)
    for layer in encoder.model.get_submodule("layer").children():  # so that no token hears of another
        for parameter in layer.get_submodule("attention.proj").parameters():
            parameter.data.zero_()
    clip = make_clip(UNEVEN_S[:4], size=(72, 72))
    before = encoder.encode([clip]).values
    # Shrunk to 36 pixels and cropped by 2 on each side, these are in the second row and the third column.
    clip.frames[2:, :, 24:32, 40:48] ^= 255
    changed = (encoder.encode([clip]).values != before).any(dim=1)[0]
    assert changed.nonzero().tolist() == [[1, 1, 2]]


def test_the_time_of_a_latent_is_the_mean_of_its_tubelets_true_times(encoder, make_clip):
    latents = encoder.encode([make_clip(UNEVEN_S)])
    assert latents.times_s[0].tolist() == pytest.approx([0.2, 1.4, 4.0])  # the last one: of a frame and its repeat


def test_its_predictor_is_left_out_and_layers_that_are_named_are_trained(encoder, vjepa2_dir, make_clip):
    whole = VJEPA2Model.from_pretrained(vjepa2_dir)
    assert sum(map(torch.numel, encoder.parameters())) == sum(map(torch.numel, whole.encoder.parameters()))
    trained = load(vjepa2_dir, trained=["layer.1"])
    trained.train().encode([make_clip(UNEVEN_S[:2])]).values.sum().backward()
    assert all(parameter.grad is not None for parameter in trained_parameters(trained))
    assert {name[:8] for name, one in trained.model.named_parameters() if one.grad is not None} == {"layer.1."}


def test_the_identity_is_of_weights_and_type_and_not_of_the_folder(encoder, vjepa2_dir, tmp_path):
    copied = tmp_path / "another name"
    VJEPA2Model.from_pretrained(vjepa2_dir).save_pretrained(copied)
    AutoVideoProcessor.from_pretrained(vjepa2_dir).save_pretrained(copied)
    assert load(copied).identity == encoder.identity != load(vjepa2_dir, dtype="bfloat16").identity
