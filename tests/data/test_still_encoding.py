"""Still pictures, read as clips, against what transformers makes of pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import encode, frame_options, patch_factor
from vtg.data.picture_encoding import encode_pictures
from vtg.errors import SampleError
from vtg.video.clip import DecodeError
from vtg.video.clip_loading import load_clip
from vtg.video.container import probe
from vtg.video.files import video_files
from vtg.video.video_window import VideoWindow

TEXT = {"type": "text", "text": "Point to the cats."}
ASKED = [{"role": "user", "content": [{"type": "video"}, TEXT]}]


def picture(path, *, width, height, **options):
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return str(path)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("model_type", ["qwen3_vl", "qwen2_5_vl", "qwen3_5"])
def test_pictures_as_a_clip_give_what_the_model_makes_of_pictures(model_type: str, count, tiny_vlm, tmp_path):
    model, processor = tiny_vlm(model_type).model, tiny_vlm(model_type).processor
    names = [picture(tmp_path / f"{at}.png", width=96 + at, height=64) for at in range(count)]
    clip = load_clip(VideoWindow("|".join(names)), VideoConfig(min_pixels=1), factor=patch_factor(processor))
    assert len(clip.frames) == count
    answered = [*ASKED, {"role": "assistant", "content": [{"type": "text", "text": "There are none."}]}]
    features = encode(processor, answered, clip)
    own = processor.tokenizer.decode(features["labels"][features["labels"] >= 0])
    assert own.startswith("There are none.") and "seconds" not in processor.tokenizer.decode(features["input_ids"])
    asked = encode(processor, ASKED, clip)
    frames = [Image.fromarray(frame.transpose(1, 2, 0)) for frame in clip.frames]
    pictured = encode_pictures(processor, [{"role": "user", "content": [{"type": "image"}] * count + [TEXT]}], frames)
    assert torch.equal(asked["position_ids"], pictured["position_ids"])
    with torch.no_grad():
        one, other = (
            model(**{name: value[None] if value.dim() == 1 else value for name, value in given.items()}).logits
            for given in (_inputs(asked), _inputs(pictured))
        )
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def _inputs(features):
    named = {name: value for name, value in features.items() if name not in ("labels", "position_ids")}
    return named | {"position_ids": features["position_ids"][:, None]}


def test_a_picture_is_read_upright_and_several_at_the_size_of_the_first(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    on_its_side = picture(tmp_path / "a.png", width=96, height=64, exif=turned)
    assert (probe(on_its_side).width, probe(on_its_side).height) == (64, 96)
    both = f"{on_its_side}|{picture(tmp_path / 'b.JPG', width=64, height=64)}"
    assert (probe(both).frames, probe(both).duration_s) == (2, 2.0)
    clip = load_clip(VideoWindow(both), VideoConfig(min_pixels=1), factor=16)
    assert clip.frames.shape == (2, 3, 96, 64) and clip.is_still and clip.duration_s == 2.0


def test_what_keeps_a_picture_from_being_read_is_named(tmp_path):
    good = picture(tmp_path / "a.png", width=64, height=64)
    (tmp_path / "page.jpg").write_text("<html>")
    (tmp_path / "half.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    for name, fault in (
        ("page.jpg", r"page.jpg: not a readable picture \(JPEG, PNG, WEBP, BMP\)"),
        ("half.png", r"half.png: the picture cannot be read \(.*truncated.*\); check the file"),
        ("none.png", r"none.png: the picture cannot be read \(.*No such file"),
    ):
        with pytest.raises(DecodeError, match=fault):
            load_clip(VideoWindow(f"{good}|{tmp_path / name}"), VideoConfig(), factor=16)
    assert video_files.exists(f"{good}|{good}") and not video_files.exists(f"{good}|{tmp_path / 'none.png'}")
    assert video_files.why_absent(f"{good}|{tmp_path / 'none.png'}") == f"no such file: {tmp_path / 'none.png'}"


def test_a_family_that_reads_pictures_otherwise_says_so(tiny_vlm, tmp_path):
    pytest.importorskip("transformers.models.molmo2", reason="this transformers has no Molmo2")
    processor = tiny_vlm("molmo2").processor
    clip = load_clip(
        VideoWindow(picture(tmp_path / "a.png", width=64, height=64)), VideoConfig(), **frame_options(processor)
    )
    with pytest.raises(SampleError, match="Molmo2 reads still pictures otherwise than clips"):
        encode(processor, ASKED, clip)
