"""The tower of a Qwen-VL as an encoder: what the language model is given of a clip, on a grid, with true times."""

import pytest
import torch

from vtg.config.encoder_settings import EncoderConfig
from vtg.data.encoding import frames_as_they_are
from vtg.errors import ConfigError
from vtg.latents.encoders import load_encoder

UNEVEN_S = (0.0, 0.4, 1.3, 1.5, 4.0)


def test_latents_are_what_the_language_model_reads_of_a_clip(qwen_tower, qwen3_vl, make_clip):
    clip = make_clip(UNEVEN_S[:4])
    read = qwen3_vl.processor.video_processor(
        videos=[torch.from_numpy(clip.frames)], return_tensors="pt", **frames_as_they_are(qwen3_vl.processor)
    )
    with torch.no_grad():
        plain = qwen3_vl.model.get_video_features(**read, return_dict=True).pooler_output[0]
    latents = qwen_tower.encode([clip])
    assert latents.values.shape == (1, qwen_tower.dim, 2, *qwen_tower.grid)
    torch.testing.assert_close(latents.values[0].flatten(1).T, plain)


def test_the_time_of_a_latent_is_the_mean_of_its_frames_true_times(qwen_tower, make_clip):
    latents = qwen_tower.encode([make_clip(UNEVEN_S)])
    assert latents.times_s[0].tolist() == pytest.approx([0.2, 1.4, 4.0])  # the last one: of a frame and its repeat
    assert latents.observed.all()


def test_latents_of_a_clip_do_not_depend_on_those_beside_it(qwen_tower, make_clip):
    short, long = make_clip(UNEVEN_S[:2]), make_clip(UNEVEN_S[:4], seed=1)
    alone, both = qwen_tower.encode([short]), qwen_tower.encode([short, long, short])
    torch.testing.assert_close(both.values[::2, :, :1], alone.values.expand(2, -1, -1, -1, -1))
    assert both.observed.tolist() == [[True, False], [True, True], [True, False]]


def test_the_tower_of_another_family_has_the_same_shape_of_latents(qwen2_5_vl_dir, make_clip):
    encoder = load_encoder(EncoderConfig(path=str(qwen2_5_vl_dir), frame_size=56), device="cpu")
    latents = encoder.encode([make_clip(UNEVEN_S[:4], size=(56, 56))])
    assert (encoder.dim, encoder.grid, latents.values.shape) == (64, (2, 2), (1, 64, 2, 2, 2))


def test_frames_of_another_size_are_refused_with_both_sizes(qwen_tower, make_clip):
    with pytest.raises(ConfigError, match=r"64x96 pixels .*, but the encoder reads 64x64; read clips in that size"):
        qwen_tower.encode([make_clip(UNEVEN_S, size=(64, 96))])


@pytest.mark.parametrize("size", [None, 16, 80])
def test_a_frame_size_of_no_whole_vision_tokens_is_refused_before_weights_load(size):
    with pytest.raises(ConfigError, match="a vision token of tiny is 32 pixels a side; set a multiple of it"):
        load_encoder(EncoderConfig(frame_size=size), device="cpu")
