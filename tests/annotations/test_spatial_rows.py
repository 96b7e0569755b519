"""Rows of points, tracks and counts, about videos and still pictures, as files hold them."""

import json

import pytest

from vtg.annotations.point import Point
from vtg.annotations.point_targets import Count, Points, Tracks
from vtg.annotations.sample import Problem, Sample, check_row, read_samples, resolve_video, sample_of
from vtg.annotations.sample_table import SampleTable
from vtg.annotations.unannotated_rows import read_open_rows
from vtg.validate import main

POINT = {"x": 0.5, "y": 0.3, "timestamp": 1.2, "object_id": 0}
# As published for Molmo2, but for the duration, which is of the file.
PUBLISHED = {"video_path": "a.mp4", "query": "Point to the person throwing the ball", "points": [POINT]}


def read(row):
    return sample_of(json.dumps(row).encode(), path="rows.jsonl", line=3)


def test_rows_as_published_are_samples_of_their_task():
    sample = read(PUBLISHED | {"duration": 9.0})
    assert isinstance(sample, Sample) and sample.target == Points((Point(0.5, 0.3, 1.2, 0),))
    assert (sample.video, sample.query) == ("a.mp4", "Point to the person throwing the ball")
    tracked = read({"video": "a.mp4", "duration": 9.0, "sentence": "Track it.", "tracks": [POINT], "label": "a ball"})
    assert isinstance(tracked, Sample) and tracked.target == Tracks((Point(0.5, 0.3, 1.2, 0),), "a ball")
    counted = read({"video": "a.mp4", "duration": 9.0, "question": "How many?", "count": 1, "points": [POINT]})
    assert isinstance(counted, Sample) and isinstance(counted.target, Count)
    for one in (sample, tracked, counted):
        assert read(one.row()) == one and list(SampleTable.of([one])) == [one]


def test_a_duration_that_is_missing_is_asked_for_or_read_from_the_video(tmp_path, write_mp4):
    missing = read(PUBLISHED)
    assert isinstance(missing, Problem) and missing.kind == "duration-missing" and "--probe --fix" in missing.message
    video = write_mp4([0, 500, 1000])
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(PUBLISHED | {"video_path": str(video), "points": [POINT | {"timestamp": 0.1}]}) + "\n")
    (sample,) = read_open_rows(str(rows), video_dir=None, takes_sets=False)
    assert isinstance(sample, Sample) and sample.duration_s > 0.1


@pytest.mark.parametrize(
    ("image", "video", "seconds"), [("a.jpg", "a.jpg", 1.0), (["a.jpg", "b.PNG"], "a.jpg|b.PNG", 2.0)]
)
def test_pictures_stand_where_a_video_does_without_times(image, video, seconds, tmp_path):
    row = {"image": image, "query": "Point to the cats.", "points": [{"x": 0.5, "y": 0.25}]}
    sample = read(row)
    assert isinstance(sample, Sample) and sample.is_still
    assert (sample.video, sample.duration_s, sample.target) == (
        video,
        seconds,
        Points((Point(0.5, 0.25, 1, 0),), stills=True),
    )
    assert read(sample.row()) == sample
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(row) + "\n" + json.dumps({"image": image, "caption": "Two cats."}) + "\n")
    for found in (read_samples(rows), read_open_rows(str(rows), video_dir=None, takes_sets=False)):
        assert [one.duration_s for one in found if isinstance(one, Sample)] == [seconds, seconds]
    (tmp_path / "b.PNG").touch()
    assert resolve_video("a.jpg|b.PNG", str(tmp_path)) == f"{tmp_path}/a.jpg|{tmp_path}/b.PNG"


@pytest.mark.parametrize(
    ("row", "kind", "message"),
    [
        (
            {"image": 7},
            "image-type",
            "image: must be the name of a picture (.jpg, .jpeg, .png, .webp, .bmp), or a list of",
        ),
        ({"image": ["a.jpg", "b.mp4"]}, "image-type", "or a list of 1 to 64 such names; correct it"),
        (
            {"image": "a.jpg", "points": [POINT | {"timestamp": 0}]},
            "points-time",
            "points[0].timestamp: has no meaning in a still picture",
        ),
        (
            {"image": "a.jpg", "points": [{"x": 0, "y": 0, "image": 1}]},
            "points-image",
            "1 is none of the row's 1 pictures",
        ),
        (
            {"video": "a.mp4", "duration": 9, "points": [{"x": 0, "y": 0}]},
            "points-time",
            "points[0].timestamp: is missing",
        ),
        ({"video": "a.mp4", "duration": 1, "points": [POINT]}, "points-time", "1.2 s is outside the clip of 1 s"),
    ],
)
def test_what_is_wrong_with_a_row_names_its_place(row, kind, message):
    problem = read({"query": "Point to it.", "points": []} | row)
    assert isinstance(problem, Problem) and problem.kind == kind
    assert str(problem).startswith("rows.jsonl:3: ") and message in str(problem)


def test_a_track_with_a_gap_is_noted_and_kept():
    tracks = [POINT | {"timestamp": time, "object_id": who} for time, who in ((1, 0), (1, 1), (2, 1), (3, 0), (3, 1))]
    row = {"video": "a.mp4", "duration": 9.0, "query": "Track them.", "tracks": tracks}
    _, (note,) = check_row(json.dumps(row).encode(), path="rows.jsonl", line=3)
    assert (note.severity, note.kind) == ("note", "tracks-gap") and "objects 0 are left out at times" in note.message
    assert isinstance(read(row), Sample)
    row["tracks"] = [*tracks, POINT | {"timestamp": 2, "object_id": 0, "occluded": True}]
    assert check_row(json.dumps(row).encode(), path="rows.jsonl", line=3)[1] == []


@pytest.mark.parametrize(
    ("times", "is_noted"), [((0, 1, 3), True), ((0, 2), False), ((0, 0.5, 1, 1.6, 2), False), ((0, 1, 2, 4, 5), True)]
)
def test_an_object_alone_has_a_gap_where_its_step_is_longer_than_usual(times, is_noted):
    row = {
        "video": "a.mp4",
        "duration": 9.0,
        "query": "Track it.",
        "tracks": [POINT | {"timestamp": at, "object_id": 0} for at in times],
    }
    _, notes = check_row(json.dumps(row).encode(), path="rows.jsonl", line=3)
    assert [note.kind for note in notes] == ["tracks-gap"] * is_noted


def test_validate_counts_rows_of_other_tasks_and_fills_in_their_duration(tmp_path, write_mp4, capsys):
    row = PUBLISHED | {"video_path": write_mp4([0, 500, 1000]), "points": [POINT | {"timestamp": 0.5}]}
    rows, fixed = tmp_path / "rows.jsonl", tmp_path / "fixed.jsonl"
    rows.write_text(json.dumps(row) + "\n" + json.dumps(row | {"points": [POINT | {"x": 50}]}) + "\n")
    assert main([str(rows), "--probe", "--fix", str(fixed)]) == 1
    printed = capsys.readouterr().out
    assert "rows of other tasks: points 1" in printed
    assert f"{rows}:2: points[0].x: 50 is outside the frame; give a share" in printed
    (kept,) = read_samples(fixed)
    assert isinstance(kept, Sample) and kept.duration_s > 1
