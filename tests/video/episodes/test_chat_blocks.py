import os

import numpy as np
import pytest

from vtg.errors import ConfigError
from vtg.video.clip import Clip
from vtg.video.episodes.chat_blocks import image_blocks, video_block, video_file_block, video_settings, video_url_block
from vtg.video.episodes.frame_provider import FrameProvider
from vtg.video.episodes.records import FilePart, VideoRecord

STEADY_MS = [100 * at for at in range(50)]


def ask_processor(processor, content, **settings):
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": "What happens?"}]}]
    return processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_tensors="pt", processor_kwargs=settings
    )


def test_the_processor_takes_images_with_their_times(qwen3_vl, make_video):
    frames = FrameProvider().frames_at(
        VideoRecord({"top": FilePart(make_video(STEADY_MS), 1.0)}), [0.0, 99.0, 1.25], size=(64, 64)
    )
    out = ask_processor(qwen3_vl.processor, image_blocks(frames, [0.0, 99.0, 1.25]))
    text = qwen3_vl.processor.tokenizer.decode(out["input_ids"][0])
    assert len(out["image_grid_thw"]) == 2
    assert "<0.0 seconds><|vision_start|><|image_pad|>" in text and "<1.2 seconds><|vision_start|>" in text
    assert "99" not in text


def test_the_processor_reads_the_true_times_of_a_video_of_frames(qwen3_vl, make_clip):
    clips = [make_clip([0.0, 0.4, 3.0, 5.0]), make_clip([1.0, 2.0])]
    out = ask_processor(qwen3_vl.processor, [video_block(clip) for clip in clips], **video_settings(*clips))
    text = qwen3_vl.processor.tokenizer.decode(out["input_ids"][0])
    assert out["video_grid_thw"][:, 0].tolist() == [2, 1]
    assert [time in text for time in ("<0.2 seconds>", "<4.0 seconds>", "<1.5 seconds>")] == [True] * 3


def test_the_processor_reads_a_video_file(qwen3_vl, make_video):
    pytest.importorskip("torchcodec", reason="transformers reads video files with torchcodec")
    block = video_file_block(make_video(STEADY_MS), fps=2.0)
    assert block["fps"] == 2.0 and os.path.isabs(block["video"])
    out = ask_processor(qwen3_vl.processor, [block], fps=block["fps"])
    assert out["video_grid_thw"][:, 0].tolist() == [5]


def test_qwen_vl_utils_takes_the_blocks(make_video, make_clip):
    tools = pytest.importorskip("qwen_vl_utils", reason="qwen-vl-utils is not installed")
    clip = make_clip([0.0, 0.5, 1.0, 1.5])
    content = [video_block(clip), *image_blocks(list(clip.frames[:1]), [0.0])]
    images, videos = tools.process_vision_info(
        [{"role": "user", "content": content}], image_patch_size=16, return_video_metadata=True
    )
    frames, metadata = videos[0]
    assert len(images) == 1 and len(frames) == 4
    assert np.array(metadata["frames_indices"]) / metadata["fps"] == pytest.approx([0.0, 0.5, 1.0, 1.5])


def test_urls_of_files_are_absolute_and_escaped():
    block = video_url_block("/data/a b#1.mp4", fps=1.5)
    assert block == {"type": "video_url", "video_url": {"url": "file:///data/a%20b%231.mp4"}, "fps": 1.5}
    assert video_file_block("file:///data/a%20b%231.mp4", fps=1.5)["video"] == "/data/a b#1.mp4"
    assert video_file_block("https://host/a.mp4", fps=1)["video"] == "https://host/a.mp4"
    with pytest.raises(ConfigError, match="fps = 0"):
        video_file_block("a.mp4", fps=0)


def test_an_even_clip_block_says_its_rate(make_clip):
    clip: Clip = make_clip([0.0, 0.25, 0.5])
    block = video_block(clip)
    assert block["sample_fps"] == block["raw_fps"] == pytest.approx(4.0)
    assert np.array_equal(np.asarray(block["video"][1]).transpose(2, 0, 1), clip.frames[1])
