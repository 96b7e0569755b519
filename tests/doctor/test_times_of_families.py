"""The time contract, for every family: the times in what the model reads are those of the frames that it sees."""

import json

import numpy as np
import pytest

from vtg.annotations.sample import read_samples
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.doctor.__main__ import clip_lines
from vtg.doctor.times_read import read_clip
from vtg.models.families import known_types
from vtg.tasks.span_task import SpanTask

UNEVEN_MS = [0, 130, 300, 310, 790, 1500, 1650, 2900, 3100, 3480, 5050, 5900]
"""Times of frames of a variable rate: a frame rate, or a count of frames, tells none of them."""


@pytest.mark.parametrize("model_type", known_types())
def test_read_times_are_true_times_of_a_trimmed_clip_of_variable_rate(model_type, tiny_vlm, write_mp4, tmp_path):
    processor = tiny_vlm(model_type).processor
    path = write_mp4(UNEVEN_MS)
    row = {"video": path, "duration": 4.5, "timestamp": [0.5, 2.0], "sentence": "it gets brighter"}
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(row | {"video_start": 0.3, "video_end": 4.8}) + "\n")
    (sample,) = read_samples(str(rows))
    video = VideoConfig(fps=0.0, min_frames=2, max_frames=16)
    reading = read_clip(
        sample, path, video=video, task=SpanTask(TaskConfig()), processor=processor, tokens_per_second=2.0, decodes=True
    )
    frames_s = np.array([time / 1000 - 0.3 for time in UNEVEN_MS if 300 <= time < 4800])
    assert np.abs(reading.frame_times_s - frames_s).max() < 1e-6
    assert reading.is_right and len(reading.read_s) > 3
    *_, verdict = clip_lines(reading)
    assert verdict.endswith(": rounding alone")
