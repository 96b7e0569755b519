"""A real v3 layout: Parquet tables, and videos of three episodes whose every frame says which one it is."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_set import (
    FPS,
    INFO,
    LENGTHS,
    SUBTASKS,
    TEXTS,
    TOP,
    WRIST,
    features,
    number_of,
    write_data,
    write_set,
    write_table,
)

from vtg import validate
from vtg.annotations.formats import FORMATS, lerobot
from vtg.annotations.sample import Sample, read_samples
from vtg.annotations.table_cache import read_table
from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError
from vtg.storage.json_files import write_json, write_jsonl
from vtg.video.clip_loading import load_clip
from vtg.video.episodes.frame_provider import FrameProvider
from vtg.video.episodes.records import FilePart
from vtg.video.video_window import VideoWindow


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_set(tmp_path / "cups")


def test_episodes_are_parts_of_files_one_for_each_camera(root):
    listed = lerobot.episodes(root)
    assert [(episode.index, episode.length, episode.tasks) for episode in listed] == [
        (0, 12, ("move the cup",)),
        (1, 20, ("move the cup",)),
        (2, 15, ("move the cup",)),
    ]
    last = listed[2].record
    assert last.cameras[TOP] == FilePart(f"{root}/videos/{TOP}/chunk-000/file-000.mp4", 3.2, 4.7)
    assert last.cameras[WRIST] == FilePart(f"{root}/videos/{WRIST}/chunk-000/file-001.mp4", 0.0, 1.5)
    assert listed[2].data_path == f"{root}/data/chunk-000/file-001.parquet" and listed[2].fps == 10.0


def test_a_data_set_is_read_as_an_annotation_file_by_its_folder_and_a_camera(root):
    table, lost = read_table(f"lerobot:{root}?camera_key={WRIST}")
    assert [sample.row() for sample in table] == lerobot.grounding_rows(root, WRIST) and not lost
    first, _ = read_table(f"lerobot:{root}?camera_key=")
    assert {sample.metadata["camera_key"] for sample in first} == {TOP}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("?camera_key=front", "camera_key = 'front': {root} has no such camera; it has observation.images.top, "),
        ("/videos", "{root}/videos/meta/info.json: no such file; give the folder of a LeRobot data set"),
    ],
)
def test_what_cannot_be_read_is_an_error_of_the_file_and_validate_exits_1(root, words, message, capsys):
    assert validate.main([f"lerobot:{root}{words}"]) == 1
    assert message.format(root=root) in capsys.readouterr().out


def test_a_table_of_it_is_made_anew_when_a_file_of_the_data_set_changes(root):
    before = FORMATS["lerobot"].files(f"lerobot:{root}")
    assert len(before) == 6
    write_data(root, subtask=False)
    assert FORMATS["lerobot"].files(f"lerobot:{root}") != before
    with pytest.raises(ConfigError, match=r"no LeRobot data set; give the folder that holds meta/info\.json"):
        FORMATS["lerobot"].files(f"lerobot:{root}/videos")


@pytest.mark.parametrize("camera", [TOP, WRIST])
def test_no_frame_leaks_from_a_neighbouring_episode(root, camera):
    provider, first = FrameProvider(), 0
    for episode in lerobot.episodes(root):
        own = list(range(first, first + episode.length))
        on_frames = provider.frames_at(episode.record, [frame / FPS for frame in range(-1, episode.length + 1)], camera)
        assert [number_of(frame) for frame in on_frames] == [None, *own, None]
        between = provider.frames_at(episode.record, [(frame + 0.5) / FPS for frame in range(episode.length)], camera)
        assert [number_of(frame) for frame in between] == own
        every = provider.video_for_episode(episode.record, 100, camera)
        assert [number_of(frame) for frame in every.frames] == own
        first += episode.length


def test_episodes_are_clips_like_any_other(root):
    config = VideoConfig(fps=0.0, min_frames=1, min_pixels=1)
    provider = FrameProvider()
    parts = {row["episode_index"]: row for row in lerobot.grounding_rows(root)}
    for episode in lerobot.episodes(root):
        row = parts[episode.index]
        clip = load_clip(
            VideoWindow(row["video"], start_s=row["video_start"], end_s=row["video_end"], duration_s=row["duration"]),
            config,
            factor=16,
            temporal_patch=1,
        )
        own = provider.video_for_episode(episode.record, 100)
        assert np.array_equal(clip.frames, own.frames)
        assert clip.timestamps_s == pytest.approx(own.timestamps_s)
        assert clip.timestamps_s == pytest.approx(np.arange(episode.length) / FPS)
        assert clip.duration_s == pytest.approx(episode.length / FPS)


def test_runs_of_subtasks_become_spans(root):
    rows = lerobot.grounding_rows(root, WRIST)
    found = {(row["episode_index"], row["sentence"]): row for row in rows}
    expected = {
        (0, TEXTS[0]): [0.0, 0.5],
        (0, TEXTS[1]): [0.5, 1.2],
        (1, TEXTS[0]): [[0.3, 0.7], [1.3, 1.7]],
        (1, TEXTS[1]): [0.7, 1.3],
        (1, TEXTS[2]): [1.7, 2.0],
        (2, TEXTS[2]): [0.0, 1.5],
    }
    assert found.keys() == expected.keys() and len(rows) == len(expected)
    for key, spans in expected.items():
        assert np.array(found[key]["timestamp"]) == pytest.approx(np.array(spans))
    row = found[1, TEXTS[1]]
    assert (row["video_start"], row["video_end"], row["camera_key"]) == (1.2, 3.2, WRIST)
    assert row["tasks"] == ["move the cup"] and row["video"].endswith("file-000.mp4")


def test_the_frames_of_a_span_are_the_frames_of_its_subtask(root):
    provider = FrameProvider()
    records = {episode.index: episode.record for episode in lerobot.episodes(root)}
    first = np.cumsum([0, *LENGTHS])
    for row in lerobot.grounding_rows(root):
        at = row["episode_index"]
        times_s = np.arange(LENGTHS[at]) / FPS
        spans = np.array(row["timestamp"]).reshape(-1, 2)
        inside = np.any([(start - 1e-6 <= times_s) & (times_s < end - 1e-6) for start, end in spans], axis=0)
        assert inside.tolist() == [TEXTS[index] == row["sentence"] if index >= 0 else False for index in SUBTASKS[at]]
        shown = provider.frames_at(records[at], times_s[inside].tolist())
        assert [number_of(frame) for frame in shown] == (first[at] + np.flatnonzero(inside)).tolist()


def test_rows_are_valid_annotations(root, tmp_path):
    rows = lerobot.grounding_rows(root)
    write_jsonl(tmp_path / "rows.jsonl", rows)
    samples = list(read_samples(tmp_path / "rows.jsonl"))
    assert all(isinstance(sample, Sample) for sample in samples), samples
    assert len({row["qid"] for row in rows}) == len(rows)
    assert [sample.row() for sample in samples if isinstance(sample, Sample)] == rows


def test_the_annotation_pipelines_column_is_read_too(root):
    def entry(time_s, text, style="subtask"):
        return {"role": "assistant", "content": text, "style": style, "timestamp": time_s, "camera": None}

    write_data(
        root,
        subtask=False,
        language={
            0: [entry(0.0, "the plan", "plan"), entry(0.0, TEXTS[0]), entry(0.5, TEXTS[1])],
            1: [entry(0.3, TEXTS[0]), entry(0.9, TEXTS[1]), entry(1.5, "")],
            2: [],
        },
    )
    rows = lerobot.grounding_rows(root)
    assert [(row["episode_index"], row["sentence"], row["timestamp"]) for row in rows] == [
        (0, TEXTS[0], [0.0, 0.5]),
        (0, TEXTS[1], pytest.approx([0.5, 1.2])),
        (1, TEXTS[0], [0.3, 0.9]),
        (1, TEXTS[1], [0.9, 1.5]),
    ]


def test_a_data_set_without_subtasks_says_what_is_missing(root):
    write_data(root, subtask=False)
    with pytest.raises(ConfigError, match=r"file-000\.parquet: has no column subtask_index, and no language_persis"):
        lerobot.grounding_rows(root)
    (root / "meta" / "subtasks.parquet").unlink()
    with pytest.raises(ConfigError, match=r"nor is there a meta/subtasks\.parquet"):
        lerobot.grounding_rows(root)
    write_data(root, subtask=False, language={0: [], 1: [], 2: []})
    with pytest.raises(ConfigError, match="no frame of the 3 episodes has a subtask"):
        lerobot.grounding_rows(root)
    assert len(lerobot.episodes(root)) == 3


def test_texts_in_an_unnamed_index_are_found(root):
    write_table(root / "meta" / "subtasks.parquet", {"subtask_index": [0, 1, 2], "__index_level_0__": TEXTS})
    assert {row["sentence"] for row in lerobot.grounding_rows(root)} == set(TEXTS)


def test_a_subtask_after_the_end_of_its_video_is_left_out_and_counted(root, caplog):
    path = root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    columns = pq.read_table(path).to_pydict()
    columns[f"videos/{TOP}/to_timestamp"][0] = 0.5
    write_table(path, columns)
    with caplog.at_level(logging.WARNING):
        rows = lerobot.grounding_rows(root)
    assert [row["sentence"] for row in rows if row["episode_index"] == 0] == [TEXTS[0]]
    assert "1 subtasks lie after the end" in caplog.text


def test_missing_columns_and_files_are_named(root):
    path = root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(path)
    for column in ("length", "tasks", f"videos/{WRIST}/to_timestamp"):
        pq.write_table(table.drop_columns([column]), path)
        with pytest.raises(ConfigError, match=rf"file-000\.parquet: has no column {column} "):
            lerobot.episodes(root)
    pq.write_table(table.drop_columns(["data/file_index"]), path)
    assert lerobot.episodes(root)[0].data_path is None
    with pytest.raises(ConfigError, match="has no columns data/chunk_index and data/file_index"):
        lerobot.grounding_rows(root)
    path.write_bytes(b"PAR1 no")
    with pytest.raises(ConfigError, match="not a readable Parquet file"):
        lerobot.episodes(root)
    path.unlink()
    with pytest.raises(ConfigError, match="which list the episodes"):
        lerobot.episodes(root)


def test_bad_rows_are_named(root):
    data = root / "data" / "chunk-000" / "file-001.parquet"
    table = pq.read_table(data)
    at = table.column_names.index("subtask_index")
    pq.write_table(table.set_column(at, "subtask_index", pa.array([7] * 15)), data)
    with pytest.raises(ConfigError, match=r"episode 2 has 7, for which meta/subtasks\.parquet has no text"):
        lerobot.grounding_rows(root)
    pq.write_table(table.set_column(at, "subtask_index", pa.array([None] * 15, pa.int64())), data)
    assert {row["episode_index"] for row in lerobot.grounding_rows(root)} == {0, 1}
    data.unlink()
    with pytest.raises(ConfigError, match=r"file-001\.parquet: no such file"):
        lerobot.grounding_rows(root)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"video_path": "../{video_key}/{file_index}.mp4"}, "leads out of the data set"),
        ({"video_path": "/etc/{video_key}"}, "leads out of the data set"),
        ({"data_path": "data/../../{file_index:03d}"}, "leads out of the data set"),
        ({"features": features("../../../top")}, "has no column"),
        ({"video_path": "{video_key.__class__}"}, "is not read as it stands"),
        ({"video_path": "{video_key[0]}"}, "is not read as it stands"),
        ({"video_path": "{video_key!r}"}, "is not read as it stands"),
        ({"video_path": "{chunk_index:0999999999d}"}, "is not read as it stands"),
        ({"video_path": "{chunk_index:{file_index}}"}, "is not read as it stands"),
        ({"video_path": "{episode_chunk:03d}/{episode_index}"}, "is not read as it stands"),
        ({"video_path": "{video_key"}, "is no path template"),
        ({"video_path": 3}, "must be a string"),
        ({"codebase_version": "v2.1"}, "only v3 is read"),
        ({"fps": 0}, "fps: must be a number above 0"),
        ({"features": []}, "features: must be an object"),
    ],
)
def test_an_info_file_that_cannot_be_is_refused(root, change, words):
    write_json(root / "meta" / "info.json", INFO | change)
    with pytest.raises(ConfigError, match=words):
        lerobot.episodes(root)


def test_a_camera_key_cannot_lead_out_of_the_data_set(root):
    path = root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(path)
    table = table.rename_columns([name.replace(WRIST, "../../../wrist") for name in table.column_names])
    pq.write_table(table, path)
    write_json(root / "meta" / "info.json", INFO | {"features": features("../../../wrist")})
    with pytest.raises(ConfigError, match="leads out of the data set"):
        lerobot.episodes(root)


def test_other_folders_and_cameras_are_named(root, tmp_path):
    with pytest.raises(ConfigError, match=r"info\.json: no such file"):
        lerobot.episodes(tmp_path)
    with pytest.raises(ConfigError, match=f"'side': .* has no such camera; it has {TOP}, {WRIST}"):
        lerobot.grounding_rows(root, "side")
    (root / "meta" / "info.json").write_text("{")
    with pytest.raises(ConfigError, match="not a JSON document"):
        lerobot.episodes(root)


def test_data_sets_without_video_and_depth_cameras_have_records_without_them(root):
    depth = {TOP: {"dtype": "video", "info": {"video.is_depth_map": True}}, WRIST: {"dtype": "image"}}
    write_json(root / "meta" / "info.json", INFO | {"features": depth, "video_path": None})
    assert [dict(episode.record.cameras) for episode in lerobot.episodes(root)] == [{}, {}, {}]
    with pytest.raises(ConfigError, match="none has dtype video"):
        lerobot.grounding_rows(root)


def test_times_near_the_grid_of_the_frame_rate_are_put_on_it():
    assert lerobot.on_grid(float(np.float32(123.4)), 10) == 123.4
    assert lerobot.on_grid(1 / 30 + 4e-4, 30) == 1 / 30
    assert lerobot.on_grid(0.512, 30) == 0.512
