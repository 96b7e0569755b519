from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vtg.config.model_settings import ModelConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import patch_factor
from vtg.export.plain_answers import _module, compare_answers
from vtg.export.standalone import FRAMES_FILE, frames_module, set_processor_sampling
from vtg.models.checkpoint import Settings
from vtg.video.clip_cost import target_size
from vtg.video.clip_loading import load_clip
from vtg.video.video_window import VideoWindow

VIDEO = VideoConfig(max_frames=8, min_pixels=4096, max_pixels=4096, fps=1.5)


@pytest.mark.parametrize(
    "video",
    [
        VIDEO,
        replace(VIDEO, fps=0.0),
        replace(VIDEO, sampling="uniform", max_frames=5),
        replace(VIDEO, sampling="random"),
        replace(VIDEO, sampling="keyframe"),
        replace(VIDEO, sampling="molmo2", total_pixels=16 * 4096, max_pixels=1 << 16),
        replace(VIDEO, min_frames=64, max_frames=80, pad=True, total_pixels=64 * 1024),
        replace(VIDEO, max_frames=7, frame_size=[90, 64]),
    ],
    ids=lambda video: f"{video.sampling}{video.max_frames}",
)
def test_the_frames_file_gives_the_very_clip_that_training_reads(vlm, video, write_mp4, tmp_path):
    (tmp_path / FRAMES_FILE).write_text(frames_module(video, vlm.processor))
    module = _module(tmp_path / FRAMES_FILE)
    factor = patch_factor(vlm.processor)
    even, uneven = range(0, 5000, 125), [0, 100, 900, 950, 2000, 2040, 3500, 6000]
    for times_ms, part in ((even, {}), (uneven, {}), (even, {"start_s": 1.0, "end_s": 3.1})):
        path = write_mp4(times_ms, size=(96, 160), seed=1)
        clip = load_clip(VideoWindow(path, **part), video, factor=factor)
        frames, metadata, times_s = module.read_video(path, **part)
        assert np.array_equal(frames, clip.frames)
        assert np.array_equal(times_s, clip.timestamps_s)
        assert metadata.duration == clip.duration_s
        assert metadata.frames_indices == [round(time_s * 1000) for time_s in clip.timestamps_s]


def test_the_processor_sizes_frames_as_training_did(vlm, tmp_path):
    processor, factor = vlm.processor, patch_factor(vlm.processor)
    rng = np.random.default_rng(0)
    for _ in range(12):
        most = int(rng.integers(4, 40)) * factor**2
        video = VideoConfig(
            min_pixels=int(rng.integers(1, 4)) * factor**2,
            max_pixels=most,
            total_pixels=int(rng.integers(4, 12)) * most,
        )
        frames, height, width = 2 * int(rng.integers(2, 9)), *rng.integers(5 * factor, 10 * factor, 2).tolist()
        copy = type(processor)(
            image_processor=processor.image_processor,
            tokenizer=processor.tokenizer,
            video_processor=type(processor.video_processor)(),
        )
        set_processor_sampling(copy, video)
        copy.save_pretrained(tmp_path)
        saved = type(processor).from_pretrained(tmp_path)
        made = saved.video_processor(
            videos=[torch.zeros(frames, 3, height, width, dtype=torch.uint8)],
            do_sample_frames=False,
            return_tensors="pt",
        )
        size = target_size(
            height,
            width,
            frames=frames,
            factor=factor,
            min_pixels=video.min_pixels,
            max_pixels=video.max_pixels,
            total_pixels=video.total_pixels,
        )
        patch = saved.video_processor.patch_size
        assert made["video_grid_thw"].tolist() == [[frames // 2, size[0] // patch, size[1] // patch]], (video, size)


def export(vlm, folder: Path, video: VideoConfig) -> tuple[Path, Settings]:
    """What an export writes for use without vtg, and the settings it is made from."""
    processor = type(vlm.processor).from_pretrained(vlm.model.config.name_or_path)
    set_processor_sampling(processor, video)
    processor.save_pretrained(folder)
    (folder / FRAMES_FILE).write_text(frames_module(video, processor))
    model = ModelConfig(path=str(folder), patch_factor=patch_factor(processor))
    return folder, Settings(model, video, TaskConfig(answer="relative"))


@pytest.fixture
def exported(vlm, tmp_path: Path) -> tuple[Path, Settings]:
    return export(vlm, tmp_path, VIDEO)


@pytest.mark.parametrize(
    "video",
    [
        replace(VIDEO, sampling="keyframe"),
        replace(VIDEO, sampling="uniform", max_frames=16, resize="fast"),
        replace(VIDEO, sampling="molmo2", fps=2.0, max_frames=32, max_pixels=16384, total_pixels=13 * 8192),
        replace(VIDEO, min_frames=80, max_frames=96, pad=True, total_pixels=80 * 4096),
        replace(VIDEO, fps=0.0, last_frame=True),
    ],
    ids=lambda video: f"{video.sampling}{video.max_frames}",
)
def test_no_setting_that_can_be_trained_with_keeps_a_model_from_export(vlm, video, tmp_path):
    assert compare_answers(vlm.model, *export(vlm, tmp_path, video)).fault is None


def test_an_export_answers_without_vtg_as_with_it(vlm, exported):
    answers = compare_answers(vlm.model, *exported)
    assert answers.fault is None
    assert answers.vtg == answers.frames
    assert f"{answers.vtg!r} by vtg, {answers.vtg!r} by transformers with frames.py" in str(answers)


def test_an_export_that_reads_other_frames_is_refused(vlm, exported):
    folder, settings = exported
    frames = folder / FRAMES_FILE
    frames.write_text(frames.read_text().replace("fps: Any = 1.5", "fps: Any = 0.5"))
    assert "with transformers alone and frames.py its input_ids are not those of vtg" in str(
        compare_answers(vlm.model, folder, settings).fault
    )


def test_an_export_whose_processor_makes_larger_frames_is_refused(vlm, exported):
    folder, settings = exported
    processor = type(vlm.processor).from_pretrained(folder)
    processor.video_processor.size = {"shortest_edge": 131072, "longest_edge": 786432}
    processor.save_pretrained(folder)
    fault = compare_answers(vlm.model, folder, settings).fault
    assert fault is not None and fault.startswith("its processor makes ") and "patches of a test video, vtg " in fault
