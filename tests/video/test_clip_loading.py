import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vtg.config.video_settings import VideoConfig
from vtg.video import clip_loading
from vtg.video.clip import DecodeError
from vtg.video.clip_loading import load_clip
from vtg.video.decoders import DECODERS
from vtg.video.video_window import VideoWindow

TEN_S = [250 * at for at in range(40)]


def config(**settings) -> VideoConfig:
    return VideoConfig(
        **({"fps": 0.0, "max_frames": 64, "min_frames": 1, "min_pixels": 16384, "decoder": "pyav"} | settings)
    )


def test_every_frame_of_a_clip_is_the_frame_of_its_time(make_video, frame_numbers):
    clip = load_clip(VideoWindow(make_video(TEN_S)), config(fps=1.0), temporal_patch=1)
    assert clip.timestamps_s == pytest.approx(np.arange(10.0))
    assert frame_numbers(clip.frames) == list(range(0, 40, 4))
    assert clip.frames.shape == (10, 3, 128, 160) and clip.duration_s == pytest.approx(10.0)


def test_a_variable_frame_rate_keeps_frames_and_times_together(make_video, frame_numbers):
    times_ms = [0, 10, 30, 500, 501, 1900, 2000, 4000]
    clip = load_clip(VideoWindow(make_video(times_ms)), config(), temporal_patch=1)
    assert clip.timestamps_s == pytest.approx(np.array(times_ms) / 1000)
    assert frame_numbers(clip.frames) == list(range(8))


@pytest.mark.parametrize("name", ["video.mp4", "video.mkv", "video.ts"])
def test_a_trim_counts_from_the_container_start_and_times_from_the_trim(make_video, frame_numbers, name):
    path = make_video([7500 + at for at in TEN_S], name=name)
    clip = load_clip(VideoWindow(path, start_s=3.0, end_s=5.0), config())
    assert frame_numbers(clip.frames) == list(range(12, 20))
    assert clip.timestamps_s == pytest.approx(np.arange(8) * 0.25, abs=1e-3)
    assert (clip.start_s, clip.end_s, clip.duration_s) == (3.0, 5.0, 2.0)


def test_sparse_frames_of_a_long_file_are_right_across_seeks(make_video, frame_numbers):
    pictures = [np.full((48, 64, 3), 20 + 4 * (at % 50), dtype=np.uint8) for at in range(600)]
    path = make_video([40 * at for at in range(600)], options={"g": "30", "bf": "3"}, pictures=pictures)
    clip = load_clip(VideoWindow(path), config(sampling="uniform", max_frames=9), temporal_patch=1)
    assert frame_numbers(clip.frames) == [round(time_s / 0.04) % 50 for time_s in clip.timestamps_s]


def test_a_stream_cut_before_its_first_keyframe_starts_there(make_video, frame_numbers):
    path = Path(make_video([7500 + at for at in TEN_S], name="video.ts", options={"g": "10", "sc_threshold": "0"}))
    stored = path.read_bytes()
    path.write_bytes(stored[:564] + stored[188 * (len(stored) // 188 // 6) :])
    clip = load_clip(VideoWindow(str(path)), config())
    numbers = frame_numbers(clip.frames)
    assert numbers[0] in (10, 20) and numbers == list(range(numbers[0], 40))


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, -1)])
def test_a_rotated_file_comes_out_upright(make_video, degrees, turns):
    stored = np.zeros((64, 96, 3), dtype=np.uint8)
    stored[:16, :24] = 255
    upright = np.rot90(stored, turns)
    limits = {"min_pixels": 1, "max_pixels": 96 * 64}
    clip = load_clip(
        VideoWindow(make_video([0, 100], size=(64, 96), rotation=degrees, pictures=[stored, stored])), config(**limits)
    )
    assert clip.frames.shape[2:] == upright.shape[:2]
    assert np.abs(clip.frames[0].transpose(1, 2, 0).astype(int) - upright).mean() < 4


def test_a_file_that_is_already_cut_is_taken_whole(make_video, frame_numbers):
    path = make_video(TEN_S)
    clip = load_clip(VideoWindow(path, start_s=20.0, end_s=30.4, duration_s=10.4), config())
    assert frame_numbers(clip.frames) == list(range(40)) and clip.timestamps_s[0] == 0.0
    assert (clip.start_s, clip.end_s, clip.duration_s) == pytest.approx((0.0, 10.4, 10.4))
    near = load_clip(VideoWindow(path, start_s=1.0, end_s=11.0), config())
    assert near.start_s == 0.0 and len(near.frames) == 40


def test_a_trim_that_ends_just_after_the_file_is_cut_out(make_video, frame_numbers):
    clip = load_clip(VideoWindow(make_video(TEN_S), start_s=6.0, end_s=10.5), config())
    assert frame_numbers(clip.frames) == list(range(24, 40)) and clip.duration_s == 4.5


def test_half_a_trim_is_completed_from_the_file_or_the_annotated_duration(make_video):
    path = make_video(TEN_S)
    assert load_clip(VideoWindow(path, start_s=6.0), config()).duration_s == pytest.approx(4.0)
    assert load_clip(VideoWindow(path, start_s=6.0, duration_s=2.0), config()).end_s == 8.0
    assert load_clip(VideoWindow(path, end_s=2.0), config()).duration_s == 2.0


def test_a_trim_that_fits_neither_reading_states_both(make_video):
    with pytest.raises(
        DecodeError,
        match=r"video\.mp4: the file is 10\.00 s long, which fits neither a file to be trimmed \(it would have to "
        r"reach video_end = 35 s\) nor one already cut \(it would be 15\.00 s long, from video_start = 20\); "
        r"check video_start",
    ):
        load_clip(VideoWindow(make_video(TEN_S), start_s=20.0, end_s=35.0), config())


def test_the_annotated_duration_is_the_clips_within_tolerance(make_video):
    path = make_video(TEN_S)
    longer, shorter = (load_clip(VideoWindow(path, duration_s=value), config()) for value in (10.9, 9.6))
    assert longer.duration_s == 10.9 and len(longer.frames) == 40
    assert shorter.duration_s == 9.6 and shorter.timestamps_s[-1] == 9.5
    for value in (11.2, 8.0, 120.0):
        with pytest.raises(
            DecodeError, match=rf"the file is 10\.00 s long, but the annotation says duration = {value:g} s"
        ):
            load_clip(VideoWindow(path, duration_s=value), config())


def test_trims_without_a_frame_are_refused(make_video):
    path = make_video(TEN_S)
    with pytest.raises(DecodeError, match=r"video_start = 12, but the file is 10\.00 s long"):
        load_clip(VideoWindow(path, start_s=12.0), config())
    with pytest.raises(
        DecodeError, match=r"no frame is first shown between 0\.01 and 0\.2 s \(the frame before is at 0\.000 s"
    ):
        load_clip(VideoWindow(path, start_s=0.01, end_s=0.2), config())


def test_a_truncated_file_is_good_up_to_where_it_breaks_off(shared_videos):
    path = str(shared_videos / "derived__truncated_mdat_sample_demo_1.mp4")
    whole = str(shared_videos / "videollama2__sample_demo_1.mp4")
    mine, theirs = (load_clip(VideoWindow(file, start_s=1.0, end_s=4.0), config()) for file in (path, whole))
    assert np.array_equal(mine.frames, theirs.frames)
    for wrong in ({}, {"start_s": 3.0, "end_s": 8.0}, {"start_s": 10.0, "end_s": 15.4}):
        with pytest.raises(DecodeError, match=r"135 of 243 frames can be read, up to 5\.48 s of 9\.72 s"):
            load_clip(VideoWindow(path, **wrong), config())


def test_a_damaged_file_says_how_far_it_decodes(shared_videos):
    path = str(shared_videos / "decord__corrupted.mp4")
    with pytest.raises(
        DecodeError,
        match=r"22 of 50 frames cannot be decoded, the first at 2\.800 s \(it decodes up to 2\.700 s, then: ",
    ):
        load_clip(VideoWindow(path), config())
    assert len(load_clip(VideoWindow(path, start_s=0.0, end_s=2.0), config()).frames) == 20


def test_the_real_annotated_clips_load(shared_videos):
    clip = load_clip(VideoWindow(str(shared_videos / "timer1__OHOFG.mp4"), duration_s=35.04), VideoConfig())
    assert clip.duration_s == 35.04 and clip.frames.shape[1:] == (3, 352, 640) and len(clip.frames) == 72
    clip = load_clip(
        VideoWindow(str(shared_videos / "timer1__OHOFG.mp4"), start_s=20.0, end_s=35.0, duration_s=15.0), VideoConfig()
    )
    assert clip.duration_s == 15.0 and 0 <= clip.timestamps_s[0] < 0.105
    clip = load_clip(
        VideoWindow(str(shared_videos / "qwen3vl__v_rBMQFpHspmo.mp4"), duration_s=144.31), VideoConfig(max_frames=16)
    )
    assert clip.duration_s == 144.31 and clip.timestamps_s[-1] < 144.31


def test_eight_threads_get_the_same_frames_as_one(make_video):
    path = make_video(TEN_S)
    alone = load_clip(VideoWindow(path), config(fps=2.0))
    with ThreadPoolExecutor(8) as pool:
        for clip in pool.map(lambda _: load_clip(VideoWindow(path), config(fps=2.0)), range(24)):
            assert np.array_equal(clip.frames, alone.frames)
            assert np.array_equal(clip.timestamps_s, alone.timestamps_s)


def test_what_pyav_cannot_read_falls_to_the_next_decoder_counted_and_logged_once(make_video, monkeypatch, caplog):
    def refuses(index, chosen, **settings):
        raise DecodeError(f"{index.info.path}: cannot be decoded here")

    path = make_video(TEN_S)
    monkeypatch.setitem(DECODERS, "torchcodec", DECODERS["pyav"])
    monkeypatch.setitem(DECODERS, "pyav", refuses)
    clip_loading.take_fallbacks()
    monkeypatch.setattr(clip_loading, "_warned", set())
    with caplog.at_level(logging.WARNING):
        clips = [load_clip(VideoWindow(path), config(decoder="auto", fps=1.0)) for _ in range(3)]
    assert len(clips[0].frames) == 10 and clip_loading.take_fallbacks() == {"decoded by torchcodec": 3}
    assert [record.getMessage() for record in caplog.records] == [
        f"torchcodec reads what pyav cannot (further files are only counted): {path}: cannot be decoded here"
    ]
    with pytest.raises(DecodeError, match="cannot be decoded here"):
        load_clip(VideoWindow(path), config(decoder="pyav"))


def test_an_unknown_decoder_is_answered_with_the_valid_ones(make_video):
    with pytest.raises(ValueError, match=r"video\.decoder = 'cv2': must be one of auto, pyav, torchcodec, decord"):
        load_clip(VideoWindow(make_video([0, 40])), config(decoder="cv2"))


def test_importing_it_imports_no_torch():
    code = "import sys, vtg.video.clip_loading; sys.exit('torch' in sys.modules or 'decord' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
