import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vtg.errors import ConfigError
from vtg.video.clip import DecodeError
from vtg.video.container import read_index
from vtg.video.episodes.episode_clips import CLIP_TICKS, episode_clip
from vtg.video.episodes.frame_provider import FrameProvider
from vtg.video.episodes.records import FilePart, VideoRecord
from vtg.video.episodes.shown import ShownFrames

IRREGULAR_MS = [0, 10, 30, 500, 501, 1900, 2000, 4000, 4700]
STEADY_MS = [100 * at for at in range(50)]


def record_of(path: str, start_s: float = 0.0, end_s: float | None = None) -> VideoRecord:
    return VideoRecord({"top": FilePart(path, start_s, end_s)}, key="episode_000000")


def test_an_episode_clip_has_the_frames_and_times_of_the_episode(make_video, frame_numbers, tmp_path):
    path = make_video(IRREGULAR_MS)
    provider, record = FrameProvider(clip_dir=tmp_path / "clips"), record_of(path, 0.01, 4.5)
    clip_path = provider.episode_clip_path(record)
    index = read_index(clip_path)
    assert index.times_s == pytest.approx(np.array([10, 30, 500, 501, 1900, 2000, 4000]) / 1000 - 0.01, abs=1e-3)
    assert index.info.duration_s == pytest.approx(4.49, abs=1e-3)
    assert index.info.codec == "h264"
    clip, source = (provider.video_for_episode(one, 100) for one in (record_of(clip_path), record))
    assert frame_numbers(source.frames) == list(range(1, 8))
    assert np.abs(clip.frames.astype(int) - source.frames).max() <= 2  # a frame is 4 apart from the next
    assert os.listdir(tmp_path / "clips") == [Path(clip_path).name]


def test_an_episode_clip_is_made_once_and_again_when_its_source_changes(make_video, tmp_path):
    path = make_video(STEADY_MS)
    provider, record = FrameProvider(clip_dir=tmp_path / "clips"), record_of(path, 1.0, 2.0)
    first = provider.episode_clip_path(record)
    made = os.stat(first).st_mtime_ns
    assert FrameProvider(clip_dir=tmp_path / "clips").episode_clip_path(record) == first
    assert os.stat(first).st_mtime_ns == made
    other = provider.episode_clip_path(record_of(path, 2.0, 3.0))
    assert other != first and Path(first).exists()
    make_video(STEADY_MS[:30])
    os.utime(path, ns=(1, 1))
    again = provider.episode_clip_path(record)
    assert again != first and not Path(first).exists() and Path(other).exists()


def test_odd_sizes_and_rotated_pictures_become_clips(make_video, tmp_path):
    provider = FrameProvider(clip_dir=tmp_path)
    path = make_video(STEADY_MS[:5], name="odd.mkv", codec="ffv1", size=(47, 63))
    info = read_index(provider.episode_clip_path(record_of(path))).info
    assert (info.height, info.width) == (46, 62)
    info = read_index(provider.episode_clip_path(record_of(make_video(STEADY_MS[:5], rotation=90)))).info
    assert (info.height, info.width, info.rotation) == (64, 48, 0)


def test_a_large_clip_keeps_its_colours(make_video, tmp_path):
    colours = [(200, 30, 30), (30, 160, 30), (30, 30, 200)]
    pictures = [np.full((720, 1280, 3), colour, dtype=np.uint8) for colour in colours]
    provider, record = (
        FrameProvider(clip_dir=tmp_path),
        record_of(make_video(STEADY_MS[:3], size=(720, 1280), pictures=pictures)),
    )
    path = provider.episode_clip_path(record)
    for one in (record, record_of(path)):
        for colour, frame in zip(colours, provider.frames_at(one, [0.0, 0.1, 0.2]), strict=True):
            assert np.asarray(frame).mean(axis=(1, 2)) == pytest.approx(colour, abs=5)


def test_a_clip_that_fails_leaves_nothing_behind(make_video, tmp_path):
    folder = tmp_path / "clips"
    with pytest.raises(DecodeError, match=r"ends at 9\.000 s"):
        FrameProvider(clip_dir=folder).episode_clip_path(record_of(make_video(STEADY_MS), 4.0, 9.0))
    with pytest.raises(ConfigError, match="decoder"):
        FrameProvider(clip_dir=folder, decoder="none").episode_clip_path(record_of(make_video(STEADY_MS)))
    assert os.listdir(folder) == []
    with pytest.raises(ConfigError, match="clip_dir: is not set"):
        FrameProvider().episode_clip_path(record_of(make_video(STEADY_MS)))


def test_frames_closer_than_a_tick_stay_apart(make_video, tmp_path):
    part = FilePart(make_video(STEADY_MS[:5]))
    shown = ShownFrames.of(read_index(part.path), part)
    close = replace(shown, times_s=np.array([0.2, 0.200001, 0.200002, 0.3, 0.5 - 1e-9]))
    path = episode_clip(part, lambda: close, folder=tmp_path, name=".a b/c", decoder="auto")
    assert Path(path).name.startswith("a_b_c-")
    ticks = np.array([0, 18_000, 18_001, 27_000, 45_000]) / CLIP_TICKS
    index = read_index(path)
    assert index.times_s == pytest.approx(ticks, abs=0.2 / CLIP_TICKS) and index.info.duration_s > index.times_s[-1]
