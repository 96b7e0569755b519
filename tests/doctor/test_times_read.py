"""Times as the model reads them, of clips with and without padding."""

import json

import numpy as np
import pytest

from vtg.annotations.sample import read_samples
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import encode, patch_factor
from vtg.doctor.times_read import read_clip
from vtg.tasks.span_task import SpanTask
from vtg.video.clip_loading import load_clip
from vtg.video.video_window import VideoWindow

VIDEO = VideoConfig(pad=True, min_frames=6, max_frames=16, min_pixels=784, max_pixels=8192)


@pytest.mark.parametrize("decodes", [True, False])
@pytest.mark.parametrize("frames", [1, 3, 9])
def test_padding_is_not_read_as_time(vlm, write_mp4, tmp_path, frames, decodes):
    path, duration_s = write_mp4([100 * at for at in range(frames)]), frames / 10
    clip = load_clip(VideoWindow(path), VIDEO, factor=patch_factor(vlm.processor))
    assert len(clip.frames) + clip.pad >= 6 and (clip.pad == 0) == (frames >= 6)
    rows = tmp_path / "rows.jsonl"
    row = {"video": path, "duration": duration_s, "timestamp": [0, 0.05], "sentence": "it gets brighter"}
    rows.write_text(json.dumps(row) + "\n")
    (sample,) = read_samples(str(rows))
    task = SpanTask(TaskConfig())
    reading = read_clip(
        sample, path, video=VIDEO, task=task, processor=vlm.processor, tokens_per_second=2.0, decodes=decodes
    )
    assert len(reading.read_s) == len(reading.true_s) == -(-len(clip.frames) // 2)
    assert np.abs(reading.read_s - reading.true_s).max() <= reading.resolution_s + 0.002
    features = encode(vlm.processor, task.conversation("it gets brighter", duration_s=duration_s), clip)
    assert int((features["mm_token_type_ids"] == 2).sum()) == reading.vision_tokens
