"""What Molmo2 cannot do is refused in one line, and its frames have one size."""

import pytest
import torch

from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError
from vtg.models import checkpoint
from vtg.models.attention import choose_attention
from vtg.models.families import FAMILIES
from vtg.video.clip_cost import clip_cost

MOLMO2 = FAMILIES["molmo2"]


@pytest.mark.parametrize("name", ["flash_attention_2", "varlen"])
def test_kernels_without_masks_are_refused_and_auto_is_sdpa(name):
    with pytest.raises(ConfigError, match=rf"^model.attention = '{name}': .* a Molmo2 .*set model.attention=sdpa$"):
        choose_attention(name, torch.device("cuda"), family=MOLMO2)
    assert choose_attention("auto", torch.device("cuda"), family=MOLMO2) == "sdpa"


def test_an_older_transformers_is_refused_by_its_version(monkeypatch):
    monkeypatch.setattr(checkpoint, "version", lambda name: "5.17.0")
    with pytest.raises(ConfigError, match=r"is a Molmo2, which needs transformers >= 5\.24, and this is 5\.17\.0; pip"):
        checkpoint.check_model_type("here", "molmo2")
    checkpoint.check_model_type("here", "qwen3_5")


def test_frames_have_one_size_and_become_fewer_where_pixels_run_out():
    more = {"height": 720, "width": 1280, "factor": 42, "temporal_patch": 1, "side": 378}
    cost = clip_cost(100.0, config=VideoConfig(fps=2.0), **more)
    assert (cost.height, cost.width, cost.frames, cost.tokens) == (378, 378, 176, 176 * 81)
    with pytest.raises(ConfigError, match="frames of 378x378 pixels and of no other size; set both to at least 142884"):
        clip_cost(100.0, config=VideoConfig(max_pixels=100000), **more)
