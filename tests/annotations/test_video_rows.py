"""`videos:PLACE` reads any rows, or a folder, for their videos alone: no sentence and no span is needed."""

import json
import shutil
from pathlib import Path

import pytest

from vtg.annotations.formats import format_of
from vtg.annotations.sample import Problem, Sample
from vtg.annotations.table_cache import read_table
from vtg.annotations.target import Unlabelled
from vtg.annotations.unannotated_rows import read_open_rows


@pytest.fixture
def folder(tmp_path, write_mp4) -> Path:
    """Two videos of 1.5 s below `videos`, and one that is broken."""
    (tmp_path / "videos" / "deep").mkdir(parents=True)
    for name in ("a.mp4", "deep/b.mp4"):
        shutil.copy(write_mp4([0, 500, 1000]), tmp_path / "videos" / name)
    (tmp_path / "videos" / "broken.mp4").write_text("no video")
    (tmp_path / "videos" / ".hidden.mp4").touch()
    (tmp_path / "videos" / "notes.txt").touch()
    return tmp_path


def read(place) -> tuple[list[Sample], list[Problem]]:
    table, lost = read_table(f"videos:{place}")
    return list(table), [one.problem for one in lost]


def test_all_videos_below_a_folder_are_rows_and_broken_ones_are_named(folder):
    samples, problems = read(folder)
    assert [sample.video for sample in samples] == [str(folder / "videos" / name) for name in ("a.mp4", "deep/b.mp4")]
    assert [sample.duration_s for sample in samples] == pytest.approx([1.5, 1.5])
    assert all(sample.target == Unlabelled() and not sample.query for sample in samples)
    assert len(problems) == 1 and "broken.mp4" in problems[0].message


def test_rows_need_nothing_but_a_video_and_every_part_of_one_is_one_row(folder):
    file = folder / "rows.jsonl"
    rows = [
        {"video": "a.mp4"},
        {"video": "a.mp4", "sentence": "a second question about it"},
        {"video": "elsewhere.mp4", "duration": 9.0, "timestamp": "none at all"},
        {"video": "long.mp4", "video_start": 10.0, "video_end": 14.0},
        {"video": "long.mp4", "video_start": 14.0, "video_end": 18.0},
        {"video": "nowhere.mp4"},
        {"sentence": "of no video"},
        {"video": "a.mp4", "duration": "ten"},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "videos/a.mp4 12\n")
    samples, problems = read(file)
    told = [(sample.video, sample.duration_s, sample.video_start_s) for sample in samples]
    assert told == [
        ("a.mp4", pytest.approx(1.5), None),
        ("elsewhere.mp4", 9.0, None),
        ("long.mp4", 4.0, 10.0),
        ("long.mp4", 4.0, 14.0),
    ]
    assert [problem.line for problem in problems] == [6, 7, 8, 9]
    messages = [problem.message for problem in problems]
    assert "'nowhere.mp4' is not there, nor beside the annotations, and its row tells no duration" in messages[0]
    assert messages[1] == messages[3] == "names no video; lists of `VIDEO LABEL` are read as kinetics_list:FILE"
    assert problems[2].field == "duration"


@pytest.mark.parametrize("text", ["videos/a.mp4 12\nvideos/deep/b.mp4 7\n", "videos/a.mp4,12\nvideos/deep/b.mp4,7\n"])
def test_lists_of_kinetics_are_read_with_and_without_their_labels(folder, text):
    file = folder / "k400_train.csv"
    file.write_text(text)
    labelled = list(format_of(f"kinetics_list:{file}").samples(f"kinetics_list:{file}"))
    samples, problems = read(f"kinetics_list:{file}")
    assert not problems
    assert [sample.video for sample in samples] == ["videos/a.mp4", "videos/deep/b.mp4"]
    assert [one.duration_s for one in labelled if isinstance(one, Sample)] == [one.duration_s for one in samples]


def test_a_folder_without_videos_is_told(tmp_path):
    samples, problems = read(tmp_path)
    assert not samples and "holds no videos (.mp4, .mkv" in problems[0].message


def test_rows_of_one_line_are_told_apart_as_videos_and_as_questions(tmp_path):
    rows = [{"video": f"{name}.mp4", "video_start": 0, "video_end": 5.0, "sentence": "it happens"} for name in "abb"]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([*rows, {"video": 3}]))
    *videos, lost = format_of(f"videos:{path}").samples(f"videos:{path}")
    assert [one.qid for one in videos] == ["rows:1", "rows:1[2]"]  # the third names the second's part again
    assert lost.place == f"{path}:1[4]"
    *asked, lost = read_open_rows(str(path), video_dir=None, takes_sets=False)
    assert [one.qid for one in asked] == ["rows:1", "rows:1[2]", "rows:1[3]"] and lost.place == f"{path}:1[4]"
