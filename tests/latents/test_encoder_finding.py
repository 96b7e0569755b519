"""A path of no encoder, or of another kind, is told in one line that says what it is and what to choose."""

import json
import shutil

import pytest
from transformers import DINOv3ViTImageProcessor, VJEPA2VideoProcessor

from vtg.config.encoder_settings import EncoderConfig
from vtg.errors import ConfigError
from vtg.latents.encoder_finding import find_encoder
from vtg.latents.encoders import load_encoder


def refusal(act, name: str, path, frame_size: int | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        act(EncoderConfig(name=name, path=str(path), frame_size=frame_size))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("act", [find_encoder, load_encoder])
def test_a_model_of_another_kind_is_told_with_the_encoder_that_reads_it(act, vjepa2_dir, dinov3_dir):
    said = refusal(act, "vjepa2", dinov3_dir)
    assert "a model of the type 'dinov3_vit', which encoder=vjepa2 does not read; choose encoder=dinov3 enc" in said
    said = refusal(act, "qwen_tower", vjepa2_dir, 64)
    assert f"which encoder=qwen_tower does not read; choose encoder=vjepa2 encoder.path={vjepa2_dir}" in said
    assert "choose encoder=qwen_tower encoder.path=tiny" in refusal(act, "dinov3", "tiny")


@pytest.mark.parametrize("act", [find_encoder, load_encoder])
def test_what_is_no_video_model_or_no_model_is_told(act, tmp_path):
    assert "no model is in this folder (there is no config.json)" in refusal(act, "vjepa2", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "pytorch_model.bin").touch()
    assert "holds no weights as safetensors, and vtg reads no others" in refusal(act, "vjepa2", tmp_path)
    (tmp_path / "model.safetensors").touch()
    said = refusal(act, "vjepa2", tmp_path)
    assert "a model of the type 'bert' makes no latents of clips; give one that encoder=vjepa2 reads (vjepa2)" in said


def test_a_hub_name_that_cannot_be_fetched_is_told_before_anything_loads(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said = refusal(find_encoder, "vjepa2", "facebook/none-such")
    assert "encoder.path = 'facebook/none-such': neither a folder nor a model that was fetched" in said
    said = refusal(load_encoder, "vjepa2", "facebook/none-such")
    assert "encoder.path = 'facebook/none-such' cannot be loaded (" in said


def with_processor(folder, beside, processor):
    shutil.copytree(folder, beside)
    processor.save_pretrained(beside)
    return beside


def test_a_processor_of_other_frames_than_the_model_reads_is_told(vjepa2_dir, dinov3_dir, tmp_path):
    other = with_processor(vjepa2_dir, tmp_path / "a", VJEPA2VideoProcessor(crop_size=64))
    said = refusal(load_encoder, "vjepa2", other)
    assert "its processor makes frames of 64x64 pixels (height x width), but the model reads 32x32" in said
    uneven = with_processor(vjepa2_dir, tmp_path / "b", VJEPA2VideoProcessor(crop_size=32, do_center_crop=False))
    said = refusal(load_encoder, "vjepa2", uneven)
    assert "makes frames of 36x54 and 54x36 pixels (height x width) of those of 64x96 and 96x64" in said
    part = with_processor(dinov3_dir, tmp_path / "c", DINOv3ViTImageProcessor(size={"height": 40, "width": 40}))
    said = refusal(load_encoder, "dinov3", part)
    assert "makes frames of 40x40 pixels (height x width), but a patch of the model is 16 pixels a side" in said


def test_a_size_that_the_model_does_not_read_is_told(vjepa2_dir, dinov3_dir):
    said = refusal(load_encoder, "vjepa2", vjepa2_dir, 64)
    assert "encoder.frame_size = 64" in said and "reads frames of 32 pixels a side alone" in said
    assert "a patch of the model is 16 pixels a side" in refusal(load_encoder, "dinov3", dinov3_dir, 40)
