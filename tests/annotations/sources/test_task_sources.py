"""Sets of captions, questions, points, tracks and counts, in small files of the columns that their publishers name."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vtg import convert, validate
from vtg.annotations.formats import format_of
from vtg.annotations.sample import Problem, Sample
from vtg.annotations.sources.partitions import missing_partitions
from vtg.annotations.sources.task_sources import TASK_SOURCES
from vtg.annotations.table_cache import read_table
from vtg.errors import ConfigError

UNSURE = {"annotator_unsure": [False, True]}
POINT = {
    "video_id": ["a", "a"],
    "label": ["red car", "cow"],
    "category": ["object", "animal"],
    "count": [2, 0],
    "points": [[[{"x": 25.0, "y": 50.0}], [{"x": 100.4, "y": 0.0}]], []],
    "two_fps_timestamps": [[1.5, 2.0], []],
    "clip_start": [1.0, None],
    "clip_end": [4.0, None],
    "video_duration": [9.0, 9.0],
}
SUBTITLES = [[{"start": 0.5, "end": 1.0, "text": "hello"}]]
QA = {"video_id": ["a"], "Question": ["What?"], "Answer": ["a cup"], "NegativeAnswers": [["a hat", "a cup", "a box"]]}
PLACES = [[25.0, 5.0], None, [50.0, 5.0], [50.0, 10.0]]
TRACK = {
    "id": ["t1"], "clip": ["a"], "exp": ["the dog"], "fps": [2], "w": [100], "h": [10],
    "start_frame": [10], "end_frame": [13], "mask_id": [["7"]], "points": [[{"object_id": "7", "points": PLACES}]],
    "video_dataset": ["sav"],
}  # fmt: skip
SEEN = [{"id": 7, "point": [25.0, 5.0], "occluded": False}, {"id": 9, "point": [1.0, 1.0], "occluded": True}]
TRAJECTORIES = {
    "id": ["s1"], "video": ["a"], "expression": ["dogs"], "fps": [2], "n_frames": [4], "width": [100], "height": [10],
    "mask_id": [["7", "9"]], "frame_trajectories": [[{"frame": 1, "time": 0.5, "points": SEEN}]],
}  # fmt: skip

TABLES: dict[str, tuple[dict, list[dict]]] = {
    "molmo2_captions": (
        {"video_id": ["a"], "merged_caption": ["A man."], "video_frame_merged_caption": [None], "score": [2]},
        [{"caption": "A man."}],
    ),
    "molmo2_choices": (
        {**QA, "subtitle": SUBTITLES},
        [{"sentence": "What?", "answer": "a cup", "choices": ["a hat", "a box", "a cup"], "subtitles": SUBTITLES[0]}],
    ),
    "molmo2_questions": (
        {"video_id": ["a"], "question": ["Who?"], "answer": ["A man."]},
        [{"sentence": "Who?", "answer": "A man."}],
    ),
    "molmo2_points": (
        POINT,
        [
            {
                "sentence": "Point to red car.",
                "label": "red car",
                "video_start": 1.0,
                "video_end": 4.0,
                "points": [
                    {"x": 0.25, "y": 0.5, "timestamp": 0.5, "object_id": 0},
                    {"x": 1.0, "y": 0.0, "timestamp": 1.0, "object_id": 1},
                ],
            },
            {"sentence": "Point to cow.", "points": [], "duration": 9.0},
        ],
    ),
    "molmo2_counts": (
        {"video_id": ["a"], "label": ["cow"], "question": ["How many cows?"], "count": [3], "video_duration": [9.0]},
        [{"sentence": "How many cows?", "count": 3}],
    ),
    "molmo2_tracks": (
        TRACK,
        [
            {
                "label": "the dog",
                "duration": 2.0,
                "qid": "t1",
                "tracks": [
                    {"x": 0.25, "y": 0.5, "timestamp": 0.0, "object_id": 0},
                    {"x": 0.5, "y": 0.5, "timestamp": 1.0, "object_id": 0},
                    {"x": 0.5, "y": 1.0, "timestamp": 1.5, "object_id": 0},
                ],
            }
        ],
    ),
    "molmo2_trajectories": (
        TRAJECTORIES,
        [
            {
                "label": "dogs",
                "duration": 2.0,
                "tracks": [
                    {"x": 0.25, "y": 0.5, "timestamp": 0.5, "object_id": 0},
                    {"x": 0.01, "y": 0.1, "timestamp": 0.5, "object_id": 1, "occluded": True},
                ],
            }
        ],
    ),
    "pixmo_captions": (
        {"image_url": ["https://host/p/a.jpg"], "caption": ["A red cup."], "transcripts": [["a cup"]]},
        [{"video": "https://host/p/a.jpg", "duration": 1.0, "caption": "A red cup."}],
    ),
    "pixmo_questions": (
        {"image": ["a.jpg"], "question": [["[USER] Hi [ASSISTANT] Hello [USER] What is it?"]], "answer": [["A cup."]]}
        | {"image_url": ["https://host/a"]},
        [{"video": "a.jpg", "sentence": "What is it?", "answer": "A cup."}],
    ),
    "pixmo_pairs": (
        {"image_urls": [["https://host/a.jpg", "https://host/b.png"]]}
        | {"qa_pairs": [{"question": ["Same?", "Why?"], "answer": ["No.", "One is red."]}]},
        [
            {"video": "https://host/a.jpg|https://host/b.png", "duration": 2.0, "sentence": "Same?", "answer": "No."},
            {"sentence": "Why?", "answer": "One is red."},
        ],
    ),
    "pixmo_points": (
        {"image_url": ["https://host/a.jpg"], "points": [[{"x": 10.0, "y": 101.0}]], "count": [1], "label": ["cup"]}
        | {"collection_method": ["pointing"]},
        [{"sentence": "Point to cup.", "points": [{"x": 0.1, "y": 1.0, "image": 0, "object_id": 0}]}],
    ),
    "pixmo_many_points": (
        {"image_urls": [["https://host/a.jpg", "https://host/b.jpg"]], "labels": [["cup", "cup"]]}
        | {"points": [[[], [{"x": 50.0, "y": 50.0}]]]},
        [{"label": "cup", "points": [{"x": 0.5, "y": 0.5, "image": 1, "object_id": 0}]}],
    ),
    "pixmo_counts": (
        {"image_url": ["https://host/a.jpg"], "count": [2], "label": ["cup"]}
        | {"points": [{"x": [3.0, 40.0], "y": [7.0, 9.0]}]},
        [{"sentence": "How many cup are there?", "count": 2}],
    ),
}  # fmt: skip


@pytest.fixture
def video(write_mp4) -> str:
    return write_mp4(range(0, 2000, 100))


def write_table(path: Path, columns: dict) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return str(path)


def samples(path: str) -> list[Sample | Problem]:
    return list(format_of(path).samples(path))


def test_every_form_has_a_table_here_or_a_list():
    assert set(TABLES) == set(TASK_SOURCES) - {"webvid", "kinetics_list"}


@pytest.mark.parametrize("form", TABLES)
def test_a_table_as_published_becomes_rows_of_its_task(form, tmp_path, video):
    columns, wanted = TABLES[form]
    (tmp_path / "videos").mkdir()
    shutil.copy(video, tmp_path / "videos" / "a.mp4")
    path = write_table(tmp_path / "train.parquet", columns)
    for name in (form, form.partition("_")[0]):  # its own, and the sets' together
        if form.startswith("pixmo_many") and name == "pixmo":
            continue
        found = samples(f"{name}:{path}")
        assert all(isinstance(sample, Sample) for sample in found), found
        rows = [sample.row() for sample in found if isinstance(sample, Sample)]
        assert [{key: row.get(key) for key in some} for row, some in zip(rows, wanted, strict=True)] == wanted


def test_a_row_without_a_duration_has_that_of_its_video_in_the_folder_beside(tmp_path, video):
    path = write_table(
        tmp_path / "train.parquet", {"video_id": ["a", "b"], "question": ["?", "?"], "answer": ["!", "!"]}
    )
    assert [str(problem).partition(": ")[2][:11] for problem in samples(f"molmo2:{path}")] == ["duration: i"] * 2
    (tmp_path / "videos").mkdir()
    before = format_of(f"molmo2:{path}").files(f"molmo2:{path}")
    shutil.copy(video, tmp_path / "videos" / "a.mp4")
    good, lost = samples(f"molmo2:{path}")
    assert isinstance(good, Sample) and good.duration_s == 2.0 and isinstance(lost, Problem)
    assert format_of(f"molmo2:{path}").files(f"molmo2:{path}") != before  # so that a table of the rows is made anew


def test_what_an_annotator_was_unsure_of_is_left_out_and_what_is_wrong_is_named(tmp_path, capsys):
    path = write_table(tmp_path / "train.parquet", POINT | UNSURE)
    assert len(samples(f"molmo2:{path}")) == 1
    wrong = POINT | {"points": [[[{"x": 250.0, "y": 50.0}], []], []]}
    path = write_table(tmp_path / "wrong.parquet", wrong)
    out = tmp_path / "out.jsonl"
    assert convert.main(["molmo2", path, "-o", str(out), "--max-dropped", "0"]) == 1
    assert "points[0].x: 2.5 is outside the frame" in capsys.readouterr().out
    assert [json.loads(line)["label"] for line in out.read_text().splitlines()] == ["cow"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"clip": ["a"], "words": ["x"]}, "is not in the format molmo2: it is a table of the columns clip, words"),
        (POINT | {"points": ["x", "y"]}, "is not as the form has it"),
    ],
)
def test_a_table_of_another_shape_is_named_with_its_path_and_exit_code_1(columns, message, tmp_path, capsys):
    path = write_table(tmp_path / "train.parquet", columns)
    code = convert.main(["molmo2", path, "-o", str(tmp_path / "out.jsonl")])
    printed = capsys.readouterr()
    assert code in (1, 2) and message in printed.out + printed.err and path in printed.out + printed.err


def write_webvid(root: Path, video: str) -> Path:
    """Two partitions of three rows, whose last video is not there."""
    partitions = root / "raw" / "webvid-10M" / "data" / "train" / "partitions"
    partitions.mkdir(parents=True)
    (partitions / "0000.csv").write_text('videoid,name,page_dir\n01234567,"A man, who sits",p\n', encoding="utf-8")
    (partitions / "0001.csv").write_text("videoid,name\n89,a dog\n77777777,a cat\n", encoding="cp1252")
    for place in ("01/0123/012345/01234567.mp4", "89/89/89/89.mp4"):
        path = root / "raw" / "videos" / "train" / place
        path.parent.mkdir(parents=True)
        shutil.copy(video, path)
    return partitions


def test_webvid_has_a_caption_for_each_video_in_folders_of_its_first_digits(tmp_path, video):
    partitions = write_webvid(tmp_path, video)
    table, lost = read_table(f"webvid:{partitions}")
    assert [(sample.video, sample.duration_s, sample.row()["caption"]) for sample in table] == [
        ("train/01/0123/012345/01234567.mp4", 2.0, "A man, who sits"),
        ("train/89/89/89/89.mp4", 2.0, "a dog"),
    ]
    assert [(one.problem.path, one.problem.line, one.problem.field) for one in lost] == [
        (f"{partitions}/0001.csv", 3, "duration")
    ]


def test_a_partition_that_is_missing_or_another_table_is_named_and_the_others_are_read(tmp_path, video, capsys):
    partitions = write_webvid(tmp_path, video)
    (partitions / "0001.csv").rename(partitions / "0002.csv")
    (partitions / "0003.csv").write_text("id,text\n1,x\n")
    problems = [one for one in samples(f"webvid:{partitions}") if isinstance(one, Problem)]
    assert [(Path(one.path).name, one.kind) for one in problems] == [
        ("0001.csv", "file-missing"), ("0002.csv", "duration-missing"), ("0003.csv", "file-broken"),
    ]  # fmt: skip
    (partitions / "0003.csv").unlink()
    assert validate.main([f"webvid:{partitions}"]) == 1
    out = tmp_path / "out.jsonl"
    assert convert.main(["webvid", str(partitions), "-o", str(out)]) == 1
    assert f"{partitions}/0001.csv: is missing among 2 partitions" in capsys.readouterr().err
    assert len(out.read_text().splitlines()) == 3
    with pytest.raises(ConfigError, match=r"there is no file of annotations; check the path"):
        read_table(f"webvid:{partitions}/*.tsv")


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        (["a-00000-of-00003.parquet", "a-00002-of-00003.parquet"], ["a-00001-of-00003.parquet"]),
        (["8.csv", "11.csv", "9.csv"], ["10.csv"]),
        (["train.csv", "val.csv"], []),
        (["2019.csv", "7.csv"], []),
    ],
)
def test_the_numbers_of_partitions_tell_which_are_missing(there, missing):
    assert missing_partitions(there) == missing


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.csv", "k400/a.mp4 0\nk400/b c.mp4 1\n"),
        ("train.txt", "k400/a.mp4 0\nk400/b c.mp4 1\n"),
        ("list.csv", "k400/a.mp4,0\nk400/b c.mp4,1\n"),
        ("list.csv", "path,label\nk400/a.mp4,0\nk400/b c.mp4,1\n"),
    ],
)
def test_lists_of_paths_and_labels_are_questions_of_the_class(name, text, tmp_path, video):
    (tmp_path / name).write_text(text)
    (tmp_path / "k400_classes.txt").write_text("0 abseiling\n1 air drumming\n")
    for place in ("a.mp4", "b c.mp4"):
        (tmp_path / "k400").mkdir(exist_ok=True)
        shutil.copy(video, tmp_path / "k400" / place)
    rows = [sample.row() for sample in samples(f"kinetics:{tmp_path / name}") if isinstance(sample, Sample)]
    assert [(row["video"], row["answer"], row["label"]) for row in rows] == [
        ("k400/a.mp4", "abseiling", "0"),
        ("k400/b c.mp4", "air drumming", "1"),
    ]
