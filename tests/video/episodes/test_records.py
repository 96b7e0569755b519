import math

import pytest

from vtg.errors import ConfigError
from vtg.video.episodes.records import FilePart, VideoRecord


def test_parts_that_cannot_be_are_named():
    for start_s, end_s in ((2.0, 1.0), (1.0, 1.0), (-0.1, 1.0), (math.nan, 1.0), (0.0, math.nan), (math.inf, None)):
        with pytest.raises(ValueError, match=r"a\.mp4: start_s = .*: must be 0 <= start_s < end_s, in seconds"):
            FilePart("a.mp4", start_s, end_s)
    assert FilePart("a.mp4") == FilePart("a.mp4", 0.0, None)


def test_a_camera_is_the_first_or_the_named_one():
    top, wrist = FilePart("top.mp4"), FilePart("wrist.mp4", 1.0, 2.0)
    record = VideoRecord({"top": top, "wrist": wrist}, key="7")
    assert record.part() is record.part("top") is top and record.part("wrist") is wrist
    with pytest.raises(ConfigError, match="camera_key = 'left': episode '7' has no such camera; it has top, wrist"):
        record.part("left")


def test_a_record_without_cameras_has_no_part_and_no_named_one():
    assert VideoRecord({}).part() is None
    with pytest.raises(ConfigError, match="it has none"):
        VideoRecord({}).part("top")
