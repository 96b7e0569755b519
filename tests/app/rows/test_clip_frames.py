"""The frames of a row's clip, at the times at which the row counts them."""

import io
from collections.abc import Callable

import pytest
from PIL import Image

from vtg.app.rows.clip_frames import CELLS, clip_frames
from vtg.errors import SampleError


def test_frames_of_a_part_are_counted_from_its_start(write_mp4: Callable[..., str]):
    path = write_mp4([0, 100, 250, 400, 1000, 1100, 1700, 2000])
    clip = clip_frames({"video": path, "video_start": 0.25, "video_end": 1.7, "duration": 1.45}, None)
    assert clip.times_s.tolist() == pytest.approx([0.0, 0.15, 0.75, 0.85]) and not clip.fault
    assert (clip.start_s, clip.duration_s) == (0.25, 1.45)
    form, picture = clip.strip_form, Image.open(io.BytesIO(clip.strip()))
    assert picture.size == (CELLS * form["width"], form["height"])
    assert set(form["times_s"]) <= set(clip.times_s.tolist())


def test_a_row_whose_times_do_not_fit_has_the_whole_file_shown_and_why(write_mp4: Callable[..., str]):
    path = write_mp4([0, 500, 1000, 1500])
    clip = clip_frames({"video": path, "duration": 60.0}, None)
    assert clip.times_s.tolist() == [0.0, 0.5, 1.0, 1.5] and "the annotation says duration = 60" in clip.fault


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "names no video"),
        ({"video": "absent.mp4"}, "absent.mp4"),
        ({"video": "gopher://a/b.mp4"}, "gopher"),
    ],
)
def test_a_row_without_a_video_that_can_be_read_is_told(row: dict[str, str], message: str):
    with pytest.raises(SampleError, match=message):
        clip_frames(row, None)
