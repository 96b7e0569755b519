"""What is planned for the longest clip of a family, against clips that are really encoded."""

import pytest

from vtg.config.derived import longest_clip_tokens, token_cost_of
from vtg.config.model_settings import ModelConfig
from vtg.config.rules import check_token_budget
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import encode, frame_options, token_cost
from vtg.errors import ConfigError
from vtg.models.families import FAMILIES
from vtg.tasks.span_task import SpanTask
from vtg.video.clip_cost import frames_cost
from vtg.video.clip_loading import load_clip
from vtg.video.video_window import VideoWindow

TASK = SpanTask(TaskConfig())

# Limits in frames, and in pixels of all together as a number of frames of 2 x 2 vision tokens.
LIMITS = {"frames": (7, 100), "pixels": (16, 12), "one frame": (1, 100)}


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_longest_clip_has_the_tokens_that_are_planned_for_it(name, limits, tiny_vlm, write_mp4):
    processor, pixels_id = tiny_vlm(name).processor, tiny_vlm(name).model.config.video_token_id
    cost, (max_frames, full_frames) = token_cost(processor), LIMITS[limits]
    frame = (2 * cost.factor) ** 2
    pixels = {"min_pixels": frame, "max_pixels": frame, "total_pixels": full_frames * frame}
    video = VideoConfig(fps=0, max_frames=max_frames, **pixels)
    path = write_mp4([100 * at for at in range(20)], size=(2 * cost.factor,) * 2)
    most = 0
    # As many frames as there may be are the most tokens only where no limit on pixels makes them smaller.
    for frames in range(1, max_frames + 1):
        of_frames = VideoConfig(fps=0, max_frames=frames, min_frames=1, **pixels)
        clip = load_clip(VideoWindow(path), of_frames, **frame_options(processor))
        features = encode(processor, TASK.conversation("a dog", duration_s=2.0), clip)
        most = max(most, int((features["input_ids"] == pixels_id).sum()))
        assert len(features["input_ids"]) <= longest_clip_tokens(video, cost)
    assert most == cost.longest_vision(video)
    if cost.side is not None or limits == "frames":
        assert len(clip.frames) == cost.longest_patches(video) * cost.temporal_patch


@pytest.mark.parametrize("total", [1 << 20, 3 * 4096])
def test_frames_of_one_size_that_is_set_have_the_tokens_that_are_planned_for_them(vlm, total, write_mp4):
    cost = token_cost(vlm.processor)
    video = VideoConfig(fps=0, max_frames=8, frame_size=[cost.factor, 2 * cost.factor + 5], total_pixels=total)
    clip = load_clip(VideoWindow(write_mp4(range(0, 2000, 100))), video, **frame_options(vlm.processor))
    assert clip.frames.shape[1:] == (3, cost.factor, 2 * cost.factor)
    assert len(clip.frames) == cost.longest_patches(video) * cost.temporal_patch
    assert cost.longest_vision(video) == len(clip.frames) // cost.temporal_patch * 2


def test_a_model_with_frames_of_one_size_takes_no_other():
    frames = {"height": 64, "width": 64, "factor": 14, "temporal_patch": 2, "side": 378}
    assert frames_cost(2, config=VideoConfig(frame_size=378), **frames).height == 378
    with pytest.raises(ConfigError, match=r"video\.frame_size = 224: this model takes frames of 378x378 pixels"):
        frames_cost(2, config=VideoConfig(frame_size=224), **frames)


def test_the_published_cost_is_known_from_the_settings():
    assert {factor: token_cost_of(ModelConfig(patch_factor=factor)) for factor in (28, 32, 42)} == {
        family.token_cost.factor: family.token_cost for family in FAMILIES.values()
    }
    other = token_cost_of(ModelConfig(patch_factor=16))
    assert (other.factor, other.side) == (16, None)


def test_a_clip_of_molmo2_that_is_too_long_is_told_with_its_frames():
    video, model = VideoConfig(max_frames=128), ModelConfig(max_length=8192, patch_factor=42)
    with pytest.raises(ConfigError) as error:
        check_token_budget(video, model, token_cost_of(model))
    assert str(error.value) == (
        "a full clip takes up to 12288 tokens (10368 vision tokens from video.max_frames = 128, video.max_pixels = "
        "262144 and video.total_pixels = 25165824, 11 around each of 128 temporal patches, 512 for prompt and answer), "
        "but model.max_length = 8192; lower video.max_frames to at most 83, or raise model.max_length"
    )
    video.max_frames = 83
    check_token_budget(video, model, token_cost_of(model))
