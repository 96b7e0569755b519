import pytest

from vtg.errors import SampleError
from vtg.video.video_window import VideoWindow


def test_times_that_no_file_could_have_are_refused():
    for start_s, end_s in [(-1.0, 2.0), (3.0, 3.0), (4.0, 3.0), (-1.0, None)]:
        with pytest.raises(
            SampleError, match=rf"a\.mp4: video_start = {start_s}, .*must be 0 <= video_start < video_end"
        ):
            VideoWindow("a.mp4", start_s=start_s, end_s=end_s)
    with pytest.raises(SampleError, match=r"video_start = 3.0, video_end = 1.0: must be"):
        VideoWindow("a.mp4", start_s=3.0, duration_s=-2.0)
    for name in ("start_s", "end_s", "duration_s"):
        with pytest.raises(SampleError, match="must be finite"):
            VideoWindow("a.mp4", **{name: float("nan")})


def test_a_start_without_an_end_lasts_as_long_as_the_clip():
    window = VideoWindow("a.mp4", start_s=6.0, duration_s=2.0)
    assert window.is_trimmed and (window.end_s, window.stop_s) == (None, 8.0)
    whole = VideoWindow("a.mp4", duration_s=2.0)
    assert not whole.is_trimmed and whole.stop_s is None
